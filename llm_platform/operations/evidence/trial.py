"""A prompt tried on a few documents, beside what is published: answers, scores and differences in a minute.

What a trial pays is stored in the ledger like any answer, under a release that is nobody's variant yet. The documents
are those of the training split: a prompt that is chosen on the evaluation split fits that split.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.evaluation.pairing import Rules
from llm_platform.inference.answers import recalibrate
from llm_platform.inference.calibration import fit_calibration
from llm_platform.operations.answering.documents import columns_read
from llm_platform.operations.answering.examples import selector
from llm_platform.operations.answering.sending import Asking, ask
from llm_platform.operations.answering.spending import ASSUMED_TOKENS_PER_BYTE
from llm_platform.operations.evidence.comparing import Paired, Side, answers_to, document_rows, grade, pair
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release, requesting
from llm_platform.prompts.load import load_prompt
from llm_platform.prompts.render import Renderer
from llm_platform.records import Completion, DocumentRow, Interval, Release, Split, Trial
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5


@dataclass(frozen=True)
class TrialPlan:
    """What a trial will ask, before a token is paid.

    Attributes:
        variant: Whose model, sampling and decision are taken.
        release: What is tried; it sends its requests.
        documents: Different texts of the split with their known answers.
        against: What it is compared with: a name and its release.
        missing: Those without a stored answer to these requests.
        prompt_tokens: Of the missing ones, estimated from their length.
        looks: Releases that were tried on this split before.
        uncovered: Columns that the prompt reads and no variant does: fingerprints do not cover them yet, so answers are
            asked again once the prompt is a variant.
    """

    application: Application
    variant: str
    calibrate: bool
    release: Release
    against: tuple[str, Release] | None
    split: Split
    documents: pa.Table
    missing: tuple[DocumentRow, ...]
    prompt_tokens: int
    completion_tokens: int
    looks: int
    uncovered: tuple[str, ...]

    @property
    def reused(self) -> int:
        """Documents whose answer is stored."""
        return int(self.documents.num_rows) - len(self.missing)


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    Attributes:
        tried: The prompt's answers, graded.
        against: What it was compared with; None where nothing else has answered these documents.
        sent: Requests of this trial.
        notes: What a reader of the numbers has to know.
    """

    plan: TrialPlan
    tried: Side
    against: Side | None
    score: Interval | None
    against_score: Interval | None
    paired: Paired | None
    sent: int
    notes: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row per document: known answer, the prompt's answer and score, and those it is compared with."""
        import pandas as pd

        columns = ("document_id", "fingerprint", "reference")
        frame = pd.DataFrame({name: self.plan.documents[name].to_pylist() for name in columns})
        for side in (self.tried, self.against):
            if side is not None:
                graded = [side.graded.get(key) for key in frame["fingerprint"]]
                frame[f"{side.name}_answer"] = [one.answer if one else None for one in graded]
                frame[f"{side.name}_score"] = pd.Series([one.score if one else None for one in graded], dtype="float64")
        return frame.drop(columns="fingerprint")


def plan_trial(
    store: ApplicationStore,
    loaded: LoadedApplication,
    path: Path,
    *,
    variant: str | None = None,
    count: int = 50,
    split: Split = "train",
) -> TrialPlan:
    """What trying a prompt file would ask.

    Args:
        variant: Whose model, sampling and decision are taken; the champion's if not given, else the first.

    Raises:
        SpecificationError: the file has mistakes, there is no such variant, or no document of the split has a known
            answer.
    """
    application = loaded.application
    name = variant or _default_variant(store, application)
    if name not in application.variants:
        raise SpecificationError(
            f"{application.name} has no variant {name!r}. There are: {', '.join(application.variants)}."
        )
    sender = loaded.requesting(name, store)
    if sender is None:
        raise SpecificationError(f"{application.name}/{name}: {loaded.pending(name, store)}.")
    release = sender.model_copy(update={"prompt": load_prompt(path, application)})
    documents = store.trials.documents(split, count=count)
    if not documents.num_rows:
        raise SpecificationError(
            f"{application.name} has no document with a known answer in the split {split!r}. "
            f"Add references, then: llm-platform run {application.name}"
        )
    stored = set(store.completions.of_request(release.request_id)["fingerprint"].to_pylist())
    missing = tuple(row for row in document_rows(documents) if row.fingerprint not in stored)
    return TrialPlan(
        application=application,
        variant=name,
        calibrate=application.variants[name].calibrate,
        release=release,
        against=_against(store, name, sender, release),
        split=split,
        documents=documents,
        missing=missing,
        prompt_tokens=_prompt_tokens(store, application, release, missing),
        completion_tokens=len(missing) * (1 if release.decision == "logprobs" else release.sampling.max_tokens),
        looks=store.trials.looks(split),
        uncovered=tuple(sorted(set(release.prompt.variables) - set(columns_read(loaded, store)))),
    )


def run_trial(store: ApplicationStore, plan: TrialPlan, *, asking: Asking, by: str) -> TrialResult:
    """Ask for what is missing, grade it beside what is published, and record that somebody looked.

    Raises:
        As `answering.completions.answer`.
    """
    if plan.missing:
        store.releases.put(plan.release)
        ask(
            store,
            plan.release,
            iter([plan.missing]),
            total=len(plan.missing),
            application=plan.application,
            asking=asking,
        )
    result = read_trial(store, plan)
    store.trials.append(
        Trial(
            trial_id=uuid.uuid4().hex,
            release_id=plan.release.release_id,
            prompt_name=plan.release.prompt.name,
            prompt_version=plan.release.prompt.version,
            against=result.against.release.release_id if result.against else None,
            split=plan.split,
            documents=plan.documents.num_rows,
            sent=len(plan.missing),
            score=result.score.value if result.score else None,
            difference=result.paired.difference.value if result.paired else None,
            p_value=result.paired.p_value if result.paired else None,
            by=by,
            at=datetime.now(UTC),
        )
    )
    return replace(result, sent=len(plan.missing))


def read_trial(store: ApplicationStore, plan: TrialPlan) -> TrialResult:
    """The result of a trial as far as its answers are stored; nothing is asked."""
    notes: list[str] = []
    if plan.uncovered:
        columns = ", ".join(plan.uncovered)
        notes.append(f"no variant reads {columns}: as a variant, this prompt is asked again, by other fingerprints")
    tried = _side(store, plan, "tried", plan.release, calibrate=plan.calibrate, notes=notes)
    against = None
    if plan.against is not None:
        name, release = plan.against
        calibrate = release.calibration is not None or (name == plan.variant and plan.calibrate)
        found = _side(store, plan, name, release, calibrate=calibrate, notes=notes)
        against = found if found.graded else None
    return TrialResult(
        plan=plan,
        tried=tried,
        against=against,
        score=tried.score,
        against_score=against.score if against else None,
        paired=pair(against, tried, rules=Rules.of(plan.application)) if against else None,
        sent=0,
        notes=tuple(dict.fromkeys(notes)),
    )


def _default_variant(store: ApplicationStore, application: Application) -> str:
    champion = store.rollout.champion()
    known = champion is not None and champion.variant in application.variants
    return champion.variant if champion is not None and known else next(iter(application.variants))


def _against(store: ApplicationStore, variant: str, sender: Release, tried: Release) -> tuple[str, Release] | None:
    """What is published; before the first promotion, what the variant asks by its files."""
    champion = champion_release(store)
    if champion is not None:
        return CHAMPION, champion
    return None if sender.request_id == tried.request_id else (variant, sender)


def _side(
    store: ApplicationStore, plan: TrialPlan, name: str, release: Release, *, calibrate: bool, notes: list[str]
) -> Side:
    answers = list(answers_to(plan.documents, store.completions.of_request(release.request_id)))
    if calibrate and answers:
        answers = _calibrated(plan, answers, requesting(release), notes)
    return grade(
        answers,
        plan.documents,
        application=plan.application,
        name=name,
        release=release,
        references_version=store.references.version(),
        split=plan.split,
    )


def _calibrated(plan: TrialPlan, answers: list[Completion], sender: Release, notes: list[str]) -> list[Completion]:
    """Answers decided with calibrations that have not seen them.

    The documents take turns: each is decided by a calibration fitted on the other four fifths of the trial. What is
    published is decided so as well, since its own calibration has seen these documents.
    """
    references = dict(
        zip(plan.documents["document_id"].to_pylist(), plan.documents["reference"].to_pylist(), strict=True)
    )
    try:
        decided = _cross_fitted(answers, references, plan.application.labels, sender)
    except SpecificationError:
        notes.append("not calibrated: too few answers to fit on some and to judge others; try more documents (--n)")
        return answers
    notes.append("calibrations are cross-fitted: no document is decided by one that has seen its known answer")
    return decided


def _cross_fitted(
    answers: Sequence[Completion], references: Mapping[str, str], labels: Sequence[str], sender: Release
) -> list[Completion]:
    # In the order of the documents' ids, so that both sides of a comparison have the same folds.
    ordered = sorted(answers, key=lambda row: row.fingerprint)
    decided = []
    for fold in range(FOLDS):
        others = [row for place, row in enumerate(ordered) if place % FOLDS != fold]
        calibration = fit_calibration(others, references, labels)
        release = sender.model_copy(update={"calibration": calibration})
        decided += [recalibrate(row, release) for row in ordered[fold::FOLDS]]
    return decided


def _prompt_tokens(
    store: ApplicationStore, application: Application, release: Release, missing: Sequence[DocumentRow]
) -> int:
    """Tokens of the prompts that would be sent, by their length in bytes."""
    if not missing:
        return 0
    renderer = Renderer(release.prompt, application.labels, choose=selector(store, application, release.prompt))
    size = sum(renderer.render(row).size_bytes for row in missing)
    champion = champion_release(store)
    measured = store.completions.measured_tokens(requesting(champion).release_id) if champion else None
    return round(size * ((measured.per_byte if measured else None) or ASSUMED_TOKENS_PER_BYTE))
