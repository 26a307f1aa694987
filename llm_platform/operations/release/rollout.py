"""Who serves the published table: decided by stored evidence, never by a check that some other run emitted."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, EvidenceMissing, SpecificationError, TransientError
from llm_platform.evaluation.report import Report
from llm_platform.operations.evidence.adapter_evidence import require_adapter_report, require_unbarred
from llm_platform.operations.evidence.evaluation import (
    current_evaluation_id,
    hold_champion,
    hold_former,
    present_report,
)
from llm_platform.operations.release.contracts import filled_by
from llm_platform.operations.release.guards import breaches
from llm_platform.operations.release.underneath import AdapterBytes
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import GateResult, Release, RolloutEvent
from llm_platform.records.evaluation import FIRST_CHAMPION
from llm_platform.warehouse.store import ApplicationStore


def evidence(
    store: ApplicationStore, loaded: LoadedApplication, variant: str, *, release: Release, evaluation_id: str
) -> Report:
    """The report that allows `release` to be published; the one verdict that all commands and assets show and go by.

    Raises:
        EvidenceMissing: there is none on exactly this release, evaluation, documents and answers, or it did not pass;
            says which gate and what to do next.
    """
    name = f"{loaded.application.name}/{variant} (release {release.release_id})"
    if release.recorded is not None:
        raise EvidenceMissing(
            f"{name} is a recording of another system's answers ({release.recorded.address}): it cannot answer the "
            "next document that arrives, so readers of the published table would wait for ever. "
            f"Compare with it: llm-platform compare {loaded.application.name} {variant} VARIANT"
        )
    require_unbarred(store, release)
    report = present_report(store, loaded, release, evaluation_id=evaluation_id)
    if report is None:
        raise EvidenceMissing(
            f"{name} has no report on the present evaluation documents, gates and champion, measured on the documents "
            "and answers that there are now. Materialize its completions, scores and report, then promote it."
        )
    # The verdict is taken from the gates themselves: a flag beside them, like a check event, is only a copy.
    if report.standing != "approved":
        raise EvidenceMissing(f"{name} is refused:\n{_failures(report)}")
    require_adapter_report(store, release, evaluation_id=evaluation_id)
    require_contracts(store, loaded.application, release)
    return report


def require_contracts(store: ApplicationStore, application: Application, release: Release) -> None:
    """Refuse a release that cannot fill what readers have been promised.

    Raises:
        EvidenceMissing: says which column of which table.
    """
    try:
        filled_by(store, application, release)
    except ContractBroken as error:
        raise EvidenceMissing(str(error)) from error


def _failed(report: Report) -> list[GateResult]:
    return [gate for gate in report.gates if not gate.passed]


def _failures(report: Report) -> str:
    """The gates that failed and what to do about each, a line each."""
    lines = (f"  {gate.name}: {gate.comparison}. {gate.next_step or ''}".rstrip() for gate in _failed(report))
    return "\n".join(lines)


def promote(
    store: ApplicationStore,
    loaded: LoadedApplication,
    variant: str,
    *,
    release: Release,
    by: str,
    note: str = "",
    authenticated: bool = False,
    adapter_bytes: AdapterBytes | None = None,
) -> RolloutEvent:
    """Let `release` serve the published table from now on.

    Args:
        adapter_bytes: Holds its adapter's files against manifest and signature; None where they cannot be reached.

    Raises:
        StorageError: a file of its adapter is another one, or its signature does not hold.
        EvidenceMissing: it has no passing report of its own, or the application states stages that it has to go
            through.
        TransientError: somebody else promoted in the meantime.
    """
    # Read first: whoever decides while the evidence is looked at makes this decision fail.
    before = store.rollout.champion()
    policy, name = loaded.application.rollout.policy, loaded.application.name
    if policy is not None and not policy.dry_run and before is not None:
        raise EvidenceMissing(
            f"{name} states stages, which {variant!r} has to go through before it serves. Enter it: llm-platform "
            f"rollout start {name} {variant}. What served before is reinstated at once by: llm-platform rollback {name}"
        )
    evaluation_id = current_evaluation_id(store, loaded)
    report = evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id)
    if adapter_bytes is not None:
        adapter_bytes(release)
    event = promotion_event(
        loaded.application,
        variant,
        release=release,
        report=report,
        by=by,
        note=note,
        authenticated=authenticated,
    )
    store.rollout.append(event, expected_previous=before.event_id if before else None)
    return event


def rollback(
    store: ApplicationStore,
    loaded: LoadedApplication,
    *,
    by: str,
    note: str = "",
    authenticated: bool = False,
    adapter_bytes: AdapterBytes | None = None,
) -> RolloutEvent:
    """Let the release that served before the present champion serve again, if it passes the present gates.

    It goes down the history: what somebody went back from is not gone back to, whoever asks how often.

    Raises:
        EvidenceMissing: there was no earlier champion, or it would not pass now; says why.
        TransientError: somebody else decided in the meantime.
    """
    name = loaded.application.name
    current = store.rollout.champion()
    earlier = before_champion(store.rollout.history(), withdrawn=withdrawn_releases(store))
    release = store.releases.get(earlier.release_id) if earlier is not None else None
    if current is None or earlier is None or release is None:
        promoting = "promote" if loaded.application.rollout.policy is None else "rollout start"
        raise EvidenceMissing(
            f"{name} has no earlier champion to go back to: nothing served before the present one that was not "
            f"withdrawn itself. Let another variant serve that passes: llm-platform {promoting} {name} VARIANT"
        )
    report = hold_former(store, loaded, earlier.variant, release)
    if report.standing != "approved":
        raise EvidenceMissing(
            f"{name}: {earlier.variant!r} (release {earlier.release_id}) served before, and would not pass on the "
            f"present known answers and gates. Nothing was changed.\n{_failures(report)}"
        )
    require_contracts(store, loaded.application, release)
    if adapter_bytes is not None:
        adapter_bytes(release)
    event = promotion_event(
        loaded.application,
        earlier.variant,
        release=release,
        report=report,
        by=by,
        note=note,
        authenticated=authenticated,
        action="rollback",
    )
    store.rollout.append(event, expected_previous=current.event_id)
    return event


def before_champion(
    history: Sequence[RolloutEvent], *, withdrawn: Collection[str] = frozenset()
) -> RolloutEvent | None:
    """The decision that a rollback returns to; None when there is none.

    A promotion is laid on top of what served; a rollback takes off what it leaves, until that is promoted again.

    Args:
        withdrawn: Releases that a rollout has withdrawn since they served last.
    """
    served: list[RolloutEvent] = []
    for event in history:
        if event.action == "rollback":
            served = [one for one in served if one.release_id != served[-1].release_id]
        served = [one for one in served if one.release_id != event.release_id]
        served.append(event)
    earlier = [one for one in served[:-1] if one.release_id not in withdrawn]
    return earlier[-1] if earlier else None


def withdrawn_releases(store: ApplicationStore) -> frozenset[str]:
    """Releases that a rollout has withdrawn, and that nobody has promoted since."""
    promoted = {event.release_id: event.at for event in store.rollout.history()}
    ended = [step for step in store.rollout_steps.newest() if step.status == "withdrawn" and step.applied]
    return frozenset(
        step.release_id for step in ended if step.release_id not in promoted or promoted[step.release_id] < step.at
    )


@dataclass(frozen=True)
class RolloutOutcome:
    """Who serves, and why the others may not."""

    champion: RolloutEvent | None
    promoted: bool
    refused: dict[str, str]


def decide(store: ApplicationStore, loaded: LoadedApplication) -> RolloutOutcome:
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
            report = evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id)
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
        return RolloutOutcome(champion, promoted=False, refused=refused)
    _, variant, release = max(passing, key=lambda item: item[:2])
    try:
        event = promote(store, loaded, variant, release=release, by=FIRST_CHAMPION)
    except TransientError:
        # A run that shared this one's work ends at the same moment, and may have chosen first.
        chosen = store.rollout.champion()
        if chosen is None:
            raise
        return RolloutOutcome(chosen, promoted=False, refused=refused)
    return RolloutOutcome(event, promoted=True, refused=refused)


def champion_failure(store: ApplicationStore, loaded: LoadedApplication) -> str | None:
    """Why what serves may publish nothing new: the present gates or a guard refuse it; None where they do not.

    A decision of our own stands until something is measured to be on the wrong side of its limit: what cannot be
    measured now, as with a judge that is down, or could still turn with more labels, keeps no answers from readers.
    Upstream's decision was held against upstream's gates, so here it has to pass ours.
    """
    champion = store.rollout.champion()
    release = None if champion is None else store.releases.get(champion.release_id)
    if champion is None or release is None:
        return None
    broken = [one for one in breaches(store, loaded, release, rollout_id=None) if one.action != "alert"]
    if broken:
        return "\n".join(f"  {one.name} is {one.measured}." for one in broken)
    ours = champion.event_id in {event.event_id for event in store.rollout.history()}
    try:
        report = hold_champion(store, loaded, champion.variant, release)
    except (SpecificationError, ContractBroken):
        if ours:
            return None
        raise
    measured_wrong = any(gate.upper is not None and not gate.is_reached_by_value for gate in _failed(report))
    if report.standing == "approved" or (ours and not measured_wrong):
        return None
    return _failures(report)


def promotion_event(
    application: Application,
    variant: str,
    *,
    release: Release,
    report: Report,
    by: str,
    note: str = "",
    authenticated: bool = False,
    action: Literal["promote", "rollback"] = "promote",
) -> RolloutEvent:
    """The event that makes a release the champion, on a report."""
    return RolloutEvent(
        application=application.name,
        event_id=uuid.uuid4().hex,
        action=action,
        variant=variant,
        release_id=release.release_id,
        report_id=report.report_id,
        evaluation_id=report.evaluation_id,
        by=by,
        at=datetime.now(UTC),
        evidence=report.gates,
        note=note,
        authenticated=authenticated,
    )
