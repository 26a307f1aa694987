"""Grade stored answers and hold them against the application's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.evaluation.baseline import Baseline, baseline_of
from llm_platform.evaluation.comparison import JudgedVariant
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.regression import ChampionScores
from llm_platform.evaluation.report import Report, build_report
from llm_platform.evaluation.scorers import score_answers, scorers_of
from llm_platform.evaluation.yardstick import evaluation_id
from llm_platform.files import write_text
from llm_platform.operations.evidence.cards import card_html, pending_variants
from llm_platform.operations.evidence.frames import known_answers_frame, text_clusters, whole_of_answers, with_clusters
from llm_platform.operations.evidence.judging import judge_kappa, judge_versions, stored_verdicts
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release, requesting
from llm_platform.records import InferenceRun, Release, Score, content_hash
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd

LABELLED, LABELLED_VERSION = "labelled", 1
"""Name under which it is kept what texts with a known answer yield, and a number that is raised when equal ones would
yield something else."""

APART_FROM = 50_000
"""Documents of a table whose run has counted words in a process of their own: it will need the memory."""


@dataclass(frozen=True)
class Grading:
    """What has been graded."""

    snapshot_id: int
    counts: dict[str, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class Reported:
    """Reports by variant, and the card that shows them side by side.

    Attributes:
        champion: The report on what is published.
        pending: Variants that have no release yet, and what they wait for.
    """

    reports: dict[str, Report]
    champion: Report | None
    card: Path
    snapshot_id: int
    pending: dict[str, str] = field(default_factory=dict)


def judged_releases(store: ApplicationStore, loaded: LoadedApplication) -> dict[str, Release]:
    """Variant → release, for everything that has answers to judge; the champion only where no file says the same."""
    releases = {name: loaded.release(name, store) for name in loaded.application.judged}
    judged = {name: release for name, release in releases.items() if release is not None}
    champion = champion_release(store)
    if champion is not None and champion.release_id not in {release.release_id for release in judged.values()}:
        judged[CHAMPION] = champion
    return judged


def score_releases(lake: Warehouse, loaded: LoadedApplication) -> Grading:
    """Store one grade for every answer that has a known answer and none yet."""
    application = loaded.application
    store = lake.application(application.name)
    judges = judge_versions(store, loaded)
    scorers = " ".join(scorer.name for scorer in scorers_of(application, judges))
    counts: dict[str, int] = {}
    versions: dict[str, str] = {}
    for variant, release in judged_releases(store, loaded).items():
        scores = _scores(store, release, loaded)
        store.scores.append(scores)
        graded = {score.document_id for score in scores if score.score is not None}
        counts[f"{variant}_graded"] = len(graded)
        answers = store.completions.data_version(release.release_id)
        verdicts = len(scores) if judges else 0
        versions[variant] = f"{release.release_id}/{answers}/{store.references.version()}/{scorers}/{verdicts}"
    return Grading(snapshot_id=lake.snapshot(), counts=counts, versions=versions)


def report_releases(
    lake: Warehouse,
    loaded: LoadedApplication,
    *,
    cards_folder: Path,
    git_commit: str = "unknown",
    panels: Sequence[Panel] = (),
    review_url: str | None = None,
) -> Reported:
    """Build and store a report for every variant, and write the card that shows them side by side.

    Args:
        lake: Where the answers and scores are.
        loaded: The application.
        cards_folder: Where the card goes.
        git_commit: Shown on the card.
        panels: What other parts of the platform add to the card.
        review_url: Address of the review page, for links from documents that are worth a look.

    Raises:
        ContractBroken: a table does not have the shape that evaluation needs, or an answer has not been graded.
        SpecificationError: a scorer, metric or panel of the application cannot be loaded.
        StorageError: the card cannot be written.
    """
    application = loaded.application
    store = lake.application(application.name)
    judged = _judged(store, loaded)
    html = card_html(
        store,
        loaded,
        judged,
        provenance={"namespace snapshot": str(lake.snapshot()), "git commit": git_commit},
        panels=panels,
        review_url=review_url,
    )
    for variant in judged:
        _store_report(store, variant.report)
    store.tallies.keep()
    card = write_text(cards_folder / "card.html", html)
    serving = champion_release(store)
    reports = {variant.report.variant: variant.report for variant in judged}
    return Reported(
        reports=reports,
        champion=next((one for one in reports.values() if serving and one.release_id == serving.release_id), None),
        card=card,
        snapshot_id=lake.snapshot(),
        pending=pending_variants(store, loaded),
    )


def current_evaluation_id(store: ApplicationStore, loaded: LoadedApplication) -> str:
    """Identity of what answers are held against now: evaluation documents, known answers, scorer, gates, champion."""
    champion = store.rollout.champion()
    return evaluation_id_against(store, loaded, champion.release_id if champion is not None else None)


def measured_on(store: ApplicationStore, loaded: LoadedApplication, release: Release) -> str:
    """Version of all that a report on a release is measured on now: documents, answers, grades, runs and prices.

    `current_evaluation_id` is the yardstick, this is what was measured with it: every answer, labelled or not.
    """
    known, entry = store.references.version(), release.model.entry
    champion, agreement = store.rollout.champion(), judge_kappa(store, loaded)
    beside = champion is not None and loaded.application.evaluation.gates.regression is not None
    serving = champion_release(store) if beside else None
    challengers = 0 if serving is None else _challengers(store, loaded, serving)
    return content_hash(
        {
            # Left out where it changes nothing, so that an upgrade makes no report stale.
            **({"challengers": challengers} if challengers > 1 else {}),
            "answers": store.completions.judged_version(release.release_id),
            "scores": store.scores.version(release.release_id, known),
            "champion": store.scores.version(champion.release_id, known) if beside and champion is not None else None,
            "references": known,
            "runs": sorted(run.run_id for run in _runs(store, release)),
            "price": loaded.prices(entry).model_dump(),
            "judge_agreement": None if agreement is None else agreement.model_dump(mode="json"),
        }
    )


def present_report(
    store: ApplicationStore, loaded: LoadedApplication, release: Release, *, evaluation_id: str
) -> Report | None:
    """The report on exactly this release, measured on exactly what there is now; None when there is none."""
    measured = measured_on(store, loaded, release)
    row = store.reports.present(release.release_id, evaluation_id=evaluation_id, measured_on=measured)
    if row is None:
        return None
    report = Report.model_validate_json(row.report)
    # What decides is the content: columns beside it are copies for whoever looks for a row.
    content = (report.release_id, report.evaluation_id, report.measured_on)
    return report if content == (release.release_id, evaluation_id, measured) else None


def hold_champion(store: ApplicationStore, loaded: LoadedApplication, variant: str, release: Release) -> Report:
    """What serves, held against the present documents, known answers and gates: as reported, else measured here."""
    found = present_report(store, loaded, release, evaluation_id=current_evaluation_id(store, loaded))
    if found is not None:
        return found
    store.scores.append(_scores(store, release, loaded))
    report = _measured(store, loaded, variant, release, with_what=_beside(store, loaded)).report
    _store_report(store, report)
    return report


def hold_former(store: ApplicationStore, loaded: LoadedApplication, variant: str, release: Release) -> Report:
    """What served before, held against the present known answers and gates by the texts that it has answered.

    The champion is left out: it is what people want to leave. What is not answered yet is asked before it is published,
    and held again then.
    """
    store.scores.append(_scores(store, release, loaded))
    alone = replace(_beside(store, loaded), champion=None)
    report = _measured(store, loaded, variant, release, with_what=alone, answered_only=True).report
    _store_report(store, report)
    return report


def evaluation_id_against(store: ApplicationStore, loaded: LoadedApplication, champion_release_id: str | None) -> str:
    """`current_evaluation_id`, were this release the champion."""
    documents = store.documents.known(["document_id", "fingerprint", "status"]).to_pandas()
    documents = documents.rename(columns={"status": "document_status"})
    return evaluation_id(
        documents,
        store.references.table().to_pandas(),
        application=loaded.application,
        champion_release_id=champion_release_id,
        judges=judge_versions(store, loaded),
    )


def _judged(store: ApplicationStore, loaded: LoadedApplication) -> list[JudgedVariant]:
    """Every release with answers to judge, its report and what the report was built from."""
    beside = _beside(store, loaded)
    return [
        _measured(store, loaded, variant, release, with_what=beside)
        for variant, release in judged_releases(store, loaded).items()
    ]


def _challengers(store: ApplicationStore, loaded: LoadedApplication, serving: Release) -> int:
    """How many releases are held against what is published."""
    releases = judged_releases(store, loaded).values()
    return len({release.release_id for release in releases} - {serving.release_id})


@dataclass(frozen=True)
class _Beside:
    """What every release is measured with."""

    references: pd.DataFrame
    clusters: Mapping[str, str]
    baseline: Baseline | None
    champion: ChampionScores | None


def _beside(store: ApplicationStore, loaded: LoadedApplication) -> _Beside:
    references = store.references.table().to_pandas()
    baseline, clusters = _of_labelled_texts(store, loaded.application, references)
    serving = champion_release(store)
    return _Beside(
        references=references,
        clusters=clusters,
        baseline=baseline,
        champion=None
        if serving is None
        else ChampionScores(serving.release_id, _stored_scores(store, serving), _challengers(store, loaded, serving)),
    )


def _of_labelled_texts(
    store: ApplicationStore, application: Application, references: pd.DataFrame
) -> tuple[Baseline | None, dict[str, str]]:
    """What the labelled documents yield without a language model, and the cluster of each text.

    Their texts lie anywhere in the table, so they are read once for the same ones.
    """
    known = store.documents.known(["document_id", "fingerprint", "status"])
    made_of = content_hash(
        {
            "method": LABELLED_VERSION,
            "task": application.task,
            "labels": list(application.labels),
            "fields": {name: field.content() for name, field in application.fields.items()},
            "confidence": application.evaluation.gates.confidence,
            "documents": [list(row.values()) for row in known.to_pylist()],
            "references": store.references.version(),
        }
    )
    kept = store.tallies.recall(LABELLED)
    if kept is not None and kept["made_of"] == made_of:
        baseline = None if kept["baseline"] is None else Baseline.model_validate(kept["baseline"])
        return baseline, kept["clusters"]
    texts = _referenced_texts(store)
    apart = sum(store.documents.counts().values()) >= APART_FROM
    found = baseline_of(texts, references, application=application, apart=apart)
    clusters = text_clusters(texts)
    content = None if found is None else found.model_dump(mode="json")
    store.tallies.remember(LABELLED, {"made_of": made_of, "baseline": content, "clusters": clusters})
    return found, clusters


def _measured(
    store: ApplicationStore,
    loaded: LoadedApplication,
    variant: str,
    release: Release,
    *,
    with_what: _Beside,
    answered_only: bool = False,
) -> JudgedVariant:
    application = loaded.application
    measured = measured_on(store, loaded, release)
    answers = with_clusters(known_answers_frame(store, release), with_what.clusters, application)
    if answered_only:
        answers = answers[answers["status"].notna()].reset_index(drop=True)
    scores = _stored_scores(store, release)
    # What is measured on a part, or while others write, is measured on nothing that is there now.
    is_whole = not answered_only and measured == measured_on(store, loaded, release)
    report = build_report(
        answers,
        with_what.references,
        scores,
        application=application,
        variant=variant,
        release=release,
        references_version=store.references.version(),
        created_at=datetime.now(UTC),
        baseline=with_what.baseline,
        runs=_runs(store, release),
        prices=loaded.prices(release.model.entry),
        champion=with_what.champion,
        judges=judge_versions(store, loaded),
        judge_agreement=judge_kappa(store, loaded),
        measured_on=measured if is_whole else "",
        whole=whole_of_answers(store, application, release, answers, with_what.references, answered_only=answered_only),
    )
    return JudgedVariant(report, answers, scores)


def _scores(store: ApplicationStore, release: Release, loaded: LoadedApplication) -> list[Score]:
    """Grades of documents that have an answer; a grade is stored once, so one that is still open is not."""
    answers = known_answers_frame(store, release)
    return score_answers(
        answers[answers["status"].notna()],
        store.references.table().to_pandas(),
        application=loaded.application,
        release_id=release.release_id,
        references_version=store.references.version(),
        verdicts=stored_verdicts(store, loaded, release),
    )


def _stored_scores(store: ApplicationStore, release: Release) -> list[Score]:
    rows = store.scores.of_release(release.release_id, store.references.version()).to_pylist()
    fields = Score.model_fields
    return [Score.model_validate({name: row[name] for name in fields}) for row in rows]


def _runs(store: ApplicationStore, release: Release) -> list[InferenceRun]:
    """Runs that sent the requests of a release; a derived release has no runs of its own."""
    sender = requesting(release).release_id
    return [run.model_copy(update={"release_id": release.release_id}) for run in store.runs.of_release(sender)]


def _store_report(store: ApplicationStore, report: Report) -> None:
    store.reports.append(
        report_id=report.report_id,
        release_id=report.release_id,
        variant=report.variant,
        evaluation_id=report.evaluation_id,
        measured_on=report.measured_on,
        passed=report.passed,
        report=report.model_dump_json(),
        created_at=report.created_at,
    )


def _referenced_texts(store: ApplicationStore) -> pd.DataFrame:
    """Documents that have a known answer, with their texts."""
    documents: pd.DataFrame = store.documents.known(["document_id", "fingerprint", "text", "status"]).to_pandas()
    return documents.rename(columns={"status": "document_status"})
