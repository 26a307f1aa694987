"""The report of one release: metrics with intervals on the evaluation split, held against the application's gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.baseline import Baseline
from llm_platform.evaluation.effort import Effort, measured_effort
from llm_platform.evaluation.evidence import gather
from llm_platform.evaluation.further import further_metrics
from llm_platform.evaluation.gates import Standing, hold, standing
from llm_platform.evaluation.measures import Measures, measure
from llm_platform.evaluation.regression import AgainstChampion, ChampionScores
from llm_platform.evaluation.scorers import scorers_of
from llm_platform.evaluation.selection import (
    evaluation_rows,
    require_columns,
    scored_rows,
)
from llm_platform.evaluation.whole import Whole, whole_of
from llm_platform.evaluation.yardstick import evaluation_id
from llm_platform.records import (
    Decision,
    Dialect,
    GateResult,
    InferenceRun,
    Interval,
    Prices,
    Record,
    Release,
    Score,
    Task,
    content_hash,
)
from llm_platform.records.prices import NO_PRICES

if TYPE_CHECKING:
    import pandas as pd

ANSWER_COLUMNS = ("document_id", "fingerprint", "status", "answer", "confidence")


class Counts(Record):
    """How many documents there are at each step.

    Attributes:
        valid: Of the answered ones.
        labelled: Documents with a reference in the evaluation split, whose text is not in the training split.
        evaluated: Of the labelled ones, those with a score; only they count.
        seen_in_training: Left out of `labelled`, because the training split has the same text.
        ungraded: Labelled documents without a score, by reason.
    """

    documents: int
    sendable: int
    answered: int
    valid: int
    labelled: int
    evaluated: int
    seen_in_training: int
    ungraded: dict[str, int]


class ReleaseFacts(Record):
    """What a reader of a report wants to know of the release; `recorded` is the file of another system's answers."""

    prompt_name: str
    prompt_version: str
    model_entry: str
    served_name: str
    dialect: Dialect
    image: str | None
    profile: str | None
    weights_sha256: str | None
    adapter: str | None
    decision: Decision
    calibrated: bool
    recorded: str | None = None

    @classmethod
    def of(cls, release: Release) -> ReleaseFacts:
        """The facts of a release."""
        model = release.model
        return cls(
            prompt_name=release.prompt.name,
            prompt_version=release.prompt.version,
            model_entry=model.entry,
            served_name=model.served_name,
            dialect=model.dialect,
            image=model.image,
            profile=model.profile,
            weights_sha256=model.weights_sha256,
            adapter=release.adapter,
            decision=release.decision,
            calibrated=release.calibration is not None,
            recorded=release.recorded.address if release.recorded is not None else None,
        )


class Report(Measures):
    """The evidence on one release.

    Attributes:
        report_id: Hash of all the rest except `created_at`.
        measured_on: Version of the documents, answers and grades that it was measured on: it approves these and no
            others, labelled or not.
        evaluation_id: Hash of the evaluation references, their documents' fingerprints, the scorer and the minimums:
            reports with equal ids were measured with the same yardstick and may be compared.
        valid_rate: Share of valid answers among all answered documents outside the training split, labelled or not.
        regression: The score beside the champion's; None where nothing is published, or no gate asks.
        judge_agreement: With people, of the judge that scores or gates.
    """

    report_id: str = ""
    measured_on: str = ""
    application: str
    task: Task
    variant: str
    release_id: str
    evaluation_id: str
    references_version: str
    scorer: str
    created_at: datetime
    release: ReleaseFacts
    counts: Counts
    valid_rate: Interval | None
    baseline: Baseline | None = None
    effort: Effort
    regression: AgainstChampion | None = None
    judge_agreement: Interval | None = None
    gates: tuple[GateResult, ...]
    passed: bool

    @property
    def standing(self) -> Standing:
        """Approved, refused or undecided; only the first may be published."""
        return standing(self.gates)


def build_report(
    answers: pd.DataFrame,
    references: pd.DataFrame,
    scores: Sequence[Score],
    *,
    application: Application,
    variant: str,
    release: Release,
    references_version: str,
    created_at: datetime,
    baseline: Baseline | None = None,
    runs: Sequence[InferenceRun] = (),
    prices: Prices = NO_PRICES,
    champion: ChampionScores | None = None,
    judges: Mapping[str, str] | None = None,
    judge_agreement: Interval | None = None,
    measured_on: str = "",
    whole: Whole | None = None,
) -> Report:
    """The report on one release. Only the evaluation split is evaluated, and no text that the training split has.

    Args:
        answers: One row per document: `document_id`, `fingerprint`, `status` (null without a completion), `answer`,
            `confidence`; the attributes that are sliced by, in a column `attributes` (a mapping or its JSON text) or in
            columns of their own; optional are `document_status`, the token columns, `latency_seconds`, `reused`, and
            `cluster` where documents of different texts are not independent.
        references: `document_id`, `answer`, `split`.
        scores: Of this release and these references, by every scorer; those of training documents and of earlier texts
            are passed over.
        baseline: As `baseline_of` gives it for the same documents.
        runs: The inference runs of the release, for speed and cost.
        prices: Of the model; without any the cost is left open.
        champion: What is published now; None where nothing is.
        judges: Judge → version of the verdicts that count.
        judge_agreement: As it was measured for the judge that scores or gates.
        measured_on: Version of all the tables above.
        whole: All documents in sums, where `answers` has those with a reference only.

    Raises:
        ContractBroken: a table lacks a column or repeats a document, or a score is of another release or other
            references.
    """
    require_columns(answers, ANSWER_COLUMNS, table="answers")
    _require_own(scores, release=release, references_version=references_version)
    decisive, *others = scorers_of(application, judges)
    rows = evaluation_rows(answers, references)
    labelled = scored_rows(rows, [score for score in scores if score.scorer == decisive.name])
    evaluated = labelled.loc[labelled["score"].notna()].reset_index(drop=True)
    measures = measure(evaluated, application)
    further = further_metrics(rows, scores, evaluated, scorers=others, application=application)
    whole = whole or whole_of(answers, references)
    effort = measured_effort(
        whole,
        [run for run in runs if run.release_id == release.release_id],
        prices=prices,
        graded=evaluated,
        accuracy=measures.accuracy,
        confidence=application.evaluation.gates.confidence,
    )
    evidence = gather(
        labelled,
        whole,
        measures,
        application=application,
        release=release,
        baseline=baseline,
        champion=None if champion is None else champion.graded_by(decisive.name),
        judge=decisive.label if decisive.grade is None else None,
        judge_agreement=judge_agreement,
        effort=effort,
        further=further,
    )
    gates = hold(evidence, application)
    report = Report(
        measured_on=measured_on,
        application=application.name,
        task=application.task,
        variant=variant,
        release_id=release.release_id,
        evaluation_id=evaluation_id(
            answers,
            references,
            application=application,
            champion_release_id=champion.release_id if champion is not None else None,
            judges=judges,
        ),
        references_version=references_version,
        scorer=decisive.name,
        created_at=created_at,
        release=ReleaseFacts.of(release),
        counts=_counts(whole, answers, references, labelled),
        valid_rate=evidence.valid_rate,
        baseline=baseline,
        effort=effort,
        regression=evidence.regression,
        judge_agreement=judge_agreement,
        gates=gates,
        passed=standing(gates) == "approved",
        **{**dict(measures), "metrics": further},
    )
    content = report.model_dump(mode="json", exclude={"report_id", "created_at"})
    return report.model_copy(update={"report_id": content_hash(content)})


def _require_own(scores: Sequence[Score], *, release: Release, references_version: str) -> None:
    release_id = release.release_id
    foreign = [
        score for score in scores if (score.release_id, score.references_version) != (release_id, references_version)
    ]
    if foreign:
        raise ContractBroken(
            f"{len(foreign)} of {len(scores)} scores are not of release {release_id!r} and references "
            f"{references_version!r} (first: document {foreign[0].document_id!r}, release {foreign[0].release_id!r}, "
            f"references {foreign[0].references_version!r}). Pass the scores of this release only."
        )


def _counts(whole: Whole, answers: pd.DataFrame, references: pd.DataFrame, labelled: pd.DataFrame) -> Counts:
    held_out = references.loc[references["split"] == "evaluation", "document_id"]
    ungraded = labelled.loc[labelled["score"].isna(), "ungraded"]
    return Counts(
        documents=whole.documents,
        sendable=whole.sendable,
        answered=whole.answered,
        valid=whole.valid,
        labelled=len(labelled),
        evaluated=int(labelled["score"].notna().sum()),
        seen_in_training=int(answers["document_id"].isin(held_out).sum()) - len(labelled),
        ungraded=dict(sorted(Counter(ungraded.tolist()).items())),
    )
