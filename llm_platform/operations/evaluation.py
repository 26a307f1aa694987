"""Grade stored answers and hold them against the application's minimums."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform.application import Application
from llm_platform.evaluation.baseline import Baseline, baseline_of
from llm_platform.evaluation.card import render_card
from llm_platform.evaluation.comparison import Candidate, compare
from llm_platform.evaluation.report import Report, build_report, evaluation_id
from llm_platform.evaluation.scorers import score_answers
from llm_platform.operations.releases import CHAMPION, Candidates, champion_release, requesting
from llm_platform.records import InferenceRun, Release, Score
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Graded:
    """What has been graded."""

    snapshot_id: int
    counts: dict[str, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class Reported:
    """Reports by variant, and the card that shows them side by side; `champion` is the report on what is published."""

    reports: dict[str, Report]
    champion: Report | None
    card: Path
    snapshot_id: int


def judged_releases(store: ApplicationStore, candidates: Candidates) -> dict[str, Release]:
    """Variant → release, for everything that has answers to judge; the champion only where no file says the same."""
    releases = {name: candidates.release(name, store) for name in candidates.application.variants}
    judged = {name: release for name, release in releases.items() if release is not None}
    champion = champion_release(store)
    if champion is not None and champion.release_id not in {release.release_id for release in judged.values()}:
        judged[CHAMPION] = champion
    return judged


def score_releases(lake: Warehouse, candidates: Candidates) -> Graded:
    """Store one grade for every answer that has a known answer and none yet."""
    application = candidates.application
    store = lake.application(application.name)
    counts: dict[str, int] = {}
    versions: dict[str, str] = {}
    for variant, release in judged_releases(store, candidates).items():
        scores = _scores(store, release, application)
        store.scores.append(scores)
        counts[f"{variant}_graded"] = sum(score.score is not None for score in scores)
        answers = store.completions.data_version(release.release_id)
        versions[variant] = f"{release.release_id}/{answers}/{store.references.version()}"
    return Graded(snapshot_id=lake.snapshot(), counts=counts, versions=versions)


def report_releases(
    lake: Warehouse, candidates: Candidates, *, cards_folder: Path, git_commit: str = "unknown"
) -> Reported:
    """Build and store a report for every variant, and write the card that shows them side by side.

    Raises:
        ContractBroken: a table does not have the shape that evaluation needs, or an answer has not been graded.
        StorageError: the card cannot be written.
    """
    application = candidates.application
    store = lake.application(application.name)
    references = store.references.table().to_pandas()
    baseline = _baseline(store, application, references)
    judged: list[Candidate] = []
    for variant, release in judged_releases(store, candidates).items():
        answers = answers_frame(store, release)
        scores = _stored_scores(store, release)
        report = build_report(
            answers,
            references,
            scores,
            application=application,
            variant=variant,
            release=release,
            references_version=store.references.version(),
            created_at=datetime.now(UTC),
            baseline=baseline,
            runs=_runs(store, release),
            gpu_hour_usd=candidates.price(release.model.entry),
        )
        _store_report(store, report)
        judged.append(Candidate(report, answers, scores))
    html = render_card(
        [candidate.report for candidate in judged],
        [compare(a, b, references=references) for a, b in itertools.combinations(judged, 2) if _comparable(a, b)],
        title=application.title,
        provenance={"namespace snapshot": str(lake.snapshot()), "git commit": git_commit},
    )
    card = write_text(cards_folder / "card.html", html)
    serving = champion_release(store)
    reports = {candidate.report.variant: candidate.report for candidate in judged}
    return Reported(
        reports=reports,
        champion=next((one for one in reports.values() if serving and one.release_id == serving.release_id), None),
        card=card,
        snapshot_id=lake.snapshot(),
    )


def current_evaluation_id(store: ApplicationStore, application: Application) -> str:
    """Identity of what answers are held against now: evaluation documents, known answers, scorer and gates."""
    documents = store.documents.table(columns=["document_id", "fingerprint", "status"]).to_pandas()
    documents = documents.rename(columns={"status": "document_status"})
    return evaluation_id(documents, store.references.table().to_pandas(), application=application)


def answers_frame(store: ApplicationStore, release: Release) -> pd.DataFrame:
    """One row per document: its answer by `release`, or null columns where there is none."""
    documents = store.documents.table(columns=["document_id", "fingerprint", "attributes", "status"]).to_pandas()
    documents = documents.rename(columns={"status": "document_status"})
    answered = store.completions.answered(release.release_id).to_pandas()
    answered = answered.drop(columns=["fingerprint", "attributes", "bucket"])
    # An answer derived from a stored one did cost what the stored one cost: the reader compares variants, not runs.
    answered["reused"] = False
    frame: pd.DataFrame = documents.merge(answered, on="document_id", how="left")
    return frame


def _scores(store: ApplicationStore, release: Release, application: Application) -> list[Score]:
    """Grades of documents that have an answer; a grade is stored once, so one that is still open is not."""
    answers = answers_frame(store, release)
    return score_answers(
        answers[answers["status"].notna()],
        store.references.table().to_pandas(),
        application=application,
        release_id=release.release_id,
        references_version=store.references.version(),
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
        passed=report.passed,
        report=report.model_dump_json(),
        created_at=report.created_at,
    )


def _baseline(store: ApplicationStore, application: Application, references: pd.DataFrame) -> Baseline | None:
    documents = store.documents.table(columns=["document_id", "fingerprint", "text", "status"]).to_pandas()
    return baseline_of(documents.rename(columns={"status": "document_status"}), references, application=application)


def _comparable(a: Candidate, b: Candidate) -> bool:
    return bool(a.report.counts.evaluated and b.report.counts.evaluated)


def write_text(path: Path, text: str) -> Path:
    """Write a file that readers see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path
