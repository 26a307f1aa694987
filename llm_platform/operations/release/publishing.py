"""Writing what the champion and the canaries have answered to the tables that readers read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import jsonschema_rs

from llm_platform.application.model import Application
from llm_platform.contracts.files import contract_files
from llm_platform.errors import ContractBroken, EvidenceMissing
from llm_platform.evaluation.report import Report
from llm_platform.operations.release.attestation import Attested
from llm_platform.operations.release.contracts import filled_by, routes_that_fill
from llm_platform.operations.release.rollout import champion_failure
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import CompletionStatus, Release, RolloutEvent, RowsChanged
from llm_platform.records.contracts import Contract
from llm_platform.records.rollout import Route
from llm_platform.warehouse.completions import SaidAlike
from llm_platform.warehouse.copies import CopyPlace, FolderPlace
from llm_platform.warehouse.published import Served
from llm_platform.warehouse.store import ApplicationStore


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


def _stored_release(store: ApplicationStore, application: Application, champion: RolloutEvent) -> Release:
    release = store.releases.get(champion.release_id)
    if release is None:
        raise EvidenceMissing(
            f"{application.name}: the release {champion.release_id} of the champion is not stored, so nothing "
            "is known of it. Promote a variant that passes."
        )
    return release


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
