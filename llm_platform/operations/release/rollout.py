"""Who serves the published table: decided by stored evidence, never by a check that some other run emitted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from jsonschema import Draft202012Validator

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, EvidenceMissing, TransientError
from llm_platform.evaluation.report import Report
from llm_platform.operations.evidence.adapter_evidence import require_adapter_report
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import CompletionStatus, Release, RolloutEvent
from llm_platform.warehouse.published import PublishedChange
from llm_platform.warehouse.store import ApplicationStore

AUTOMATIC = "rollout: first_champion automatic"


def evidence(
    store: ApplicationStore, application: Application, variant: str, *, release: Release, evaluation_id: str
) -> Report:
    """The report that allows `release` to be published.

    Raises:
        EvidenceMissing: there is none on exactly this release and evaluation, or it did not pass; says which gate and
            what to do next.
    """
    if release.recorded is not None:
        raise EvidenceMissing(
            f"{application.name}/{variant} is a recording of another system's answers ({release.recorded.address}): it "
            "cannot answer the next document that arrives, so readers of the published table would wait for ever. "
            f"Compare with it: llm-platform compare {variant} VARIANT"
        )
    row = store.reports.latest(release.release_id, evaluation_id)
    if row is None:
        raise EvidenceMissing(
            f"{application.name}/{variant} (release {release.release_id}) has no report on the present evaluation "
            f"documents, gates and champion. Materialize its completions, scores and report, then promote it."
        )
    report = Report.model_validate_json(row.report)
    # The verdict is taken from the gates themselves: a flag beside them, like a check event, is only a copy.
    if report.standing != "approved" or report.release_id != release.release_id:
        failed = [gate for gate in report.gates if not gate.passed]
        lines = "\n".join(f"  {gate.name}: {gate.comparison}. {gate.next_step or ''}".rstrip() for gate in failed)
        raise EvidenceMissing(f"{application.name}/{variant} (release {release.release_id}) is refused:\n{lines}")
    require_adapter_report(store, release, evaluation_id=evaluation_id)
    return report


def promote(
    store: ApplicationStore,
    application: Application,
    variant: str,
    *,
    release: Release,
    evaluation_id: str,
    by: str,
    note: str = "",
) -> RolloutEvent:
    """Let `release` serve the published table from now on.

    Raises:
        EvidenceMissing: it has no passing report of its own.
        TransientError: somebody else promoted in the meantime.
    """
    report = evidence(store, application, variant, release=release, evaluation_id=evaluation_id)
    before = store.rollout.champion()
    event = _event("promote", application, variant, release=release, report=report, by=by, note=note)
    store.rollout.append(event, expected_previous=before.event_id if before else None)
    return event


def rollback(store: ApplicationStore, application: Application, *, by: str, note: str = "") -> RolloutEvent:
    """Let the release that served before the present champion serve again; its evidence is already on record.

    Raises:
        EvidenceMissing: there was no earlier champion.
    """
    history = store.rollout.history()
    current = store.rollout.champion()
    earlier = [event for event in history if current is not None and event.release_id != current.release_id]
    if current is None or not earlier:
        raise EvidenceMissing(f"{application.name} has no earlier champion to go back to.")
    previous = earlier[-1]
    event = previous.model_copy(
        update={"event_id": uuid.uuid4().hex, "action": "rollback", "by": by, "at": datetime.now(UTC), "note": note}
    )
    store.rollout.append(event, expected_previous=current.event_id)
    return event


@dataclass(frozen=True)
class RolloutDecision:
    """Who serves, and why the others may not."""

    champion: RolloutEvent | None
    promoted: bool
    refused: dict[str, str]


def decide(store: ApplicationStore, loaded: LoadedApplication) -> RolloutDecision:
    """Hold every variant against its own evidence; promote the best one if nothing is published yet.

    Only the first champion is chosen here, and only if the application says so; every later change is a person's.
    """
    application = loaded.application
    evaluation_id = current_evaluation_id(store, loaded)
    passing: list[tuple[float, str, Release]] = []
    refused: dict[str, str] = {}
    for variant in application.variants:
        release = loaded.release(variant, store)
        if release is None:
            refused[variant] = str(loaded.pending(variant, store))
            continue
        try:
            report = evidence(store, application, variant, release=release, evaluation_id=evaluation_id)
        except EvidenceMissing as error:
            refused[variant] = str(error)
            continue
        if release.adapter is not None:
            # What it has to beat must serve first, and be there to go back to.
            refused[variant] = "it has passed, and an adapter serves only once somebody promotes it"
            continue
        passing.append((report.accuracy.lower if report.accuracy else 0.0, variant, release))
    champion = store.rollout.champion()
    if champion is not None or not passing or application.rollout.first_champion == "manual":
        return RolloutDecision(champion, promoted=False, refused=refused)
    _, variant, release = max(passing, key=lambda item: item[:2])
    try:
        event = promote(store, application, variant, release=release, evaluation_id=evaluation_id, by=AUTOMATIC)
    except TransientError:
        # A run that shared this one's work ends at the same moment, and may have chosen first.
        chosen = store.rollout.champion()
        if chosen is None:
            raise
        return RolloutDecision(chosen, promoted=False, refused=refused)
    return RolloutDecision(event, promoted=True, refused=refused)


@dataclass(frozen=True)
class Publication:
    """What one publication wrote."""

    change: PublishedChange
    release_id: str
    export: Path


def publish(store: ApplicationStore, application: Application, *, export_folder: Path) -> Publication:
    """Write the published table from the champion's stored answers, and the same rows as a Parquet file.

    Raises:
        EvidenceMissing: there is no champion, or the report it was promoted on is gone or did not pass.
        ContractBroken: a sendable document has no answer of the champion, or an answer is not of the task's form;
            nothing is written.
    """
    champion = store.rollout.champion()
    if champion is None:
        raise EvidenceMissing(
            f"{application.name} has no champion: no release has passed its gates. "
            f"See the report card, then: llm-platform promote {application.name} VARIANT"
        )
    _require_evidence(store, application, champion)
    missing = store.completions.missing_count(champion.release_id)
    if missing:
        raise ContractBroken(
            f"{application.name}: {missing} sendable documents have no answer of the champion {champion.variant!r} "
            f"(release {champion.release_id}); nothing was published. Materialize completions_champion."
        )
    broken = contract_violations(store.completions.answered(champion.release_id), application)
    if broken:
        raise ContractBroken(f"{application.name}: nothing was published.\n" + "\n".join(broken))
    contract = application.publish.contract
    change = store.published.publish(champion.release_id, contract=contract)
    export = export_folder / f"published_v{contract}.parquet"
    if change.changed or not export.is_file():
        store.published.export_parquet(contract, export)
    return Publication(change=change, release_id=champion.release_id, export=export)


def _require_evidence(store: ApplicationStore, application: Application, champion: RolloutEvent) -> None:
    if champion.event_id not in {event.event_id for event in store.rollout.history()}:
        # Upstream's champion: its report stays in upstream, and the gates it was held against came with the decision.
        found = None if all(gate.passed for gate in champion.evidence) else "upstream's, with gates that did not pass"
    else:
        row = store.reports.get(champion.report_id)
        report = Report.model_validate_json(row.report) if row is not None else None
        passed = report is not None and report.release_id == champion.release_id and report.standing == "approved"
        refused = "missing" if row is None else "not a passing report of that release"
        found = None if passed else refused
    if found is not None:
        raise EvidenceMissing(
            f"{application.name}: the champion {champion.variant!r} (release {champion.release_id}) was promoted on "
            f"report {champion.report_id}, which is {found}. Evaluate it again and promote it."
        )


def contract_violations(rows: pa.Table, application: Application) -> list[str]:
    """What is wrong with rows that readers get: one sentence a kind, with the number of rows and the first key.

    Args:
        rows: Columns document_id, status, answer, confidence.
        application: Says what an answer may be.
    """
    frame = rows.select(["document_id", "status", "answer", "confidence"]).to_pandas()
    valid = frame["status"] == CompletionStatus.VALID
    wrong = {
        "repeat a document": frame["document_id"].duplicated(),
        "are valid without an answer": valid & frame["answer"].isna(),
        "have an answer without being valid": ~valid & frame["answer"].notna(),
        "have a confidence outside [0, 1]": (frame["confidence"] < 0) | (frame["confidence"] > 1),
        "have an answer that the task does not allow": valid & ~frame["answer"].map(_allowed(application)).astype(bool),
    }
    return [
        f"{int(rows_wrong.sum())} rows {kind} (first: {frame['document_id'][rows_wrong].iloc[0]!r})."
        for kind, rows_wrong in wrong.items()
        if rows_wrong.any()
    ]


def _allowed(application: Application) -> Callable[[object], bool]:
    if application.task == "classify":
        return lambda answer: answer in application.labels
    schema = application.output_schema()
    if schema is None:
        return lambda answer: isinstance(answer, str)
    validator = Draft202012Validator(schema)
    return lambda answer: isinstance(answer, str) and validator.is_valid(json.loads(answer))


def _event(
    action: str, application: Application, variant: str, *, release: Release, report: Report, by: str, note: str
) -> RolloutEvent:
    return RolloutEvent.model_validate(
        {
            "application": application.name,
            "event_id": uuid.uuid4().hex,
            "action": action,
            "variant": variant,
            "release_id": release.release_id,
            "report_id": report.report_id,
            "evaluation_id": report.evaluation_id,
            "by": by,
            "at": datetime.now(UTC),
            "evidence": report.gates,
            "note": note,
        }
    )
