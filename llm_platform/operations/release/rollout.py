"""Who serves the published table: decided by stored evidence, never by a check that some other run emitted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import jsonschema_rs

from llm_platform.application.model import Application
from llm_platform.contracts.files import contract_files
from llm_platform.errors import ContractBroken, EvidenceMissing, SpecificationError, TransientError
from llm_platform.evaluation.report import Report
from llm_platform.operations.evidence.adapter_evidence import require_adapter_report, require_unbarred
from llm_platform.operations.evidence.evaluation import (
    current_evaluation_id,
    hold_champion,
    hold_former,
    present_report,
)
from llm_platform.operations.release.attestation import Attested
from llm_platform.operations.release.contracts import filled_by, routes_that_fill
from llm_platform.operations.release.guards import breaches
from llm_platform.operations.release.underneath import AdapterBytes
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import CompletionStatus, GateResult, Release, RolloutEvent, RowsChanged
from llm_platform.records.contracts import Contract
from llm_platform.records.evaluation import FIRST_CHAMPION
from llm_platform.records.rollout import Route
from llm_platform.warehouse.completions import SaidAlike
from llm_platform.warehouse.copies import CopyPlace, FolderPlace
from llm_platform.warehouse.published import Served
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


@dataclass(frozen=True)
class Publication:
    """What one publication wrote.

    Attributes:
        contracts: Of the tables that were filled, the one that counts as `published` first.
        waiting: Why the contract that the files describe is not published yet; None where it is.
        copied: Copies that were written, a line each.
        waited_hours: How long the oldest change had waited to be published.
        completeness: Share of documents that have an answer.
    """

    change: RowsChanged
    release_id: str
    export: Path
    contracts: tuple[Contract, ...]
    waiting: str | None
    copied: tuple[str, ...]
    waited_hours: float
    completeness: float


def publish(
    store: ApplicationStore,
    loaded: LoadedApplication,
    *,
    export_folder: Path,
    places: Sequence[CopyPlace] = (),
    today: date | None = None,
    attested: Attested | None = None,
) -> Publication:
    """Write the published tables from the stored answers of the champion and of canaries; bring copies up to them.

    What a writer that was killed has not copied, the next publication does.

    Args:
        store: Of the application.
        loaded: Its files.
        export_folder: Of the Parquet files and contracts that are kept beside the report card.
        places: Further copies.
        today: Day on which tables are retired; None is the clock's, in UTC.
        attested: What a publication has to show besides; None where the deployment asks for no attestation.

    Raises:
        EvidenceMissing: there is no champion, the report it was promoted on is gone or did not pass, or what it has
            answered since is refused by the present gates.
        ContractBroken: a sendable document has no answer of the champion, an answer is not of the task's form, or what
            readers were promised cannot be filled; nothing is written.
        TransientError: a copy could not be reached; the tables are published.
    """
    application, champion = loaded.application, store.rollout.champion()
    if champion is None:
        raise EvidenceMissing(
            f"{application.name} has no champion: no release has passed its gates. "
            f"See the report card, then: llm-platform promote {application.name} VARIANT"
        )
    _require_evidence(store, application, champion)
    if attested is not None:
        attested.require(store, loaded, now=datetime.now(UTC))
    release = _stored_release(store, application, champion)
    if "hash" in application.publish.masks.values():
        store.copies.mask_key_id(make=True)
    filled = filled_by(store, application, release, today=today)
    served = served_by(store, application, champion, filled.contracts)
    changed = store.published.changed_since(served, filled.contracts)
    for one in dict.fromkeys((champion.release_id, served.release_id)):
        said = store.completions.said(one, document_ids=changed)
        if broken := contract_violations(said, store.releases.get(one) or release):
            raise ContractBroken(f"{application.name}: nothing was published.\n" + "\n".join(broken))
    _require_present_verdict(store, loaded, champion)
    first = filled.contracts[0]
    waited = store.published.waiting_hours(first.number, changed=changed)
    change = store.published.publish(
        served.release_id,
        filled.contracts,
        variant=served.variant,
        routes=served.routes,
        retired=filled.retired,
    )
    store.tallies.keep()
    copied = store.copies.bring(filled.contracts, [FolderPlace(export_folder), *places], files=contract_files)
    return Publication(
        change=change,
        release_id=champion.release_id,
        export=export_folder / f"{first.table}.parquet",
        contracts=filled.contracts,
        waiting=filled.waiting,
        copied=tuple(copied),
        waited_hours=waited,
        completeness=store.published.completeness(first.number),
    )


def _stored_release(store: ApplicationStore, application: Application, champion: RolloutEvent) -> Release:
    release = store.releases.get(champion.release_id)
    if release is None:
        raise EvidenceMissing(
            f"{application.name}: the release {champion.release_id} of the champion is not stored, so nothing "
            "is known of it. Promote a variant that passes."
        )
    return release


def served_by(
    store: ApplicationStore, application: Application, champion: RolloutEvent, contracts: Sequence[Contract]
) -> Served:
    """Whose answers are published: the champion's, with the canaries' shares.

    A challenger has answered its share by the time it becomes the champion, and not all documents: until it has,
    readers keep the answers of the champion before for the rest.

    Raises:
        ContractBroken: a sendable document would have no answer.
    """
    routes = tuple(one for one in routes_that_fill(store, contracts) if _keeps_contract(store, one))
    missing = store.completions.missing_count(champion.release_id)
    if not missing:
        return Served(champion.release_id, champion.variant, routes)
    before = _replaced(store, champion)
    if before is not None:
        whole = Route(rollout_id=champion.event_id, variant=champion.variant, release_id=champion.release_id, share=1.0)
        served = Served(before.release_id, before.variant, (*routes, whole))
        missing = store.published.unanswered(served)
        if not missing:
            return served
    raise ContractBroken(
        f"{application.name}: {missing} sendable documents have no answer of the champion {champion.variant!r} "
        f"(release {champion.release_id}); nothing was published. Materialize completions_champion."
    )


def _keeps_contract(store: ApplicationStore, route: Route) -> bool:
    """Whether a canary's answers are what readers may get; the documents of one whose are not stay the champion's."""
    release = store.releases.get(route.release_id)
    return release is not None and not contract_violations(store.completions.said(route.release_id), release)


def _replaced(store: ApplicationStore, champion: RolloutEvent) -> RolloutEvent | None:
    """What served before a champion that came out of a rollout; None for one that was promoted at once."""
    rollouts = store.rollout_steps.newest()
    if not any(one.status == "champion" and one.release_id == champion.release_id for one in rollouts):
        return None
    history = store.rollout.history()
    places = [at for at, event in enumerate(history) if event.event_id == champion.event_id]
    return history[places[0] - 1] if places and places[0] > 0 else None


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


def _require_present_verdict(store: ApplicationStore, loaded: LoadedApplication, champion: RolloutEvent) -> None:
    """Refuse to publish what the present gates or guards refuse, unless the application says that it is published."""
    name = loaded.application.name
    failure = champion_failure(store, loaded)
    if failure is None or loaded.application.rollout.on_champion_failure == "publish_and_alert":
        return
    raise EvidenceMissing(
        f"{name}: the champion {champion.variant!r} (release {champion.release_id}) does not pass on the present "
        f"documents, answers and known answers; nothing was published, and readers keep what they have.\n"
        f"{failure}\n"
        f"Mend the documents, promote a variant that passes, or: llm-platform rollback {name}"
    )


def contract_violations(said: Iterable[SaidAlike], release: Release) -> list[str]:
    """What is wrong with answers for readers: one sentence a kind, with the number of rows and the first key.

    Args:
        said: Answers, those that are alike together.
        release: Says what an answer may be.
    """
    allowed, found = _allowed(release), dict[str, tuple[int, str]]()
    for one in said:
        valid = one.status == CompletionStatus.VALID
        wrong = {
            "are valid without an answer": valid and one.answer is None,
            "have an answer without being valid": not valid and one.answer is not None,
            "have a confidence outside [0, 1]": one.impossible,
            "have an answer that the task does not allow": valid and not allowed(one.answer),
        }
        for kind in (kind for kind, is_wrong in wrong.items() if is_wrong):
            count, first = found.get(kind, (0, one.first))
            found[kind] = (count + one.documents, min(first, one.first))
    return [f"{count} rows {kind} (first: {first!r})." for kind, (count, first) in sorted(found.items())]


def _allowed(release: Release) -> Callable[[str | None], bool]:
    if release.task == "classify":
        return lambda answer: answer in release.prompt.answers
    if release.output_schema is None:
        return lambda answer: answer is not None
    fits = jsonschema_rs.validator_for(release.output_schema).is_valid
    return lambda answer: answer is not None and fits(json.loads(answer))


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
