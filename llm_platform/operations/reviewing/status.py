"""Where applications stand, read from the lake: one read model for the page, `llm-platform status` and programs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import counted
from llm_platform.operations.answering.samples import SAMPLES
from llm_platform.operations.answering.spending import (
    budget_line,
    month_of,
    month_parts,
    month_used_up,
    spent_by,
    used_since,
)
from llm_platform.operations.answering.under_way import under_way
from llm_platform.operations.evidence.evaluation import current_evaluation_id, present_report
from llm_platform.operations.live import asked_documents, open_rollouts
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.release.watching import HELD
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.operations.serving.endpoint_page import ENDPOINT_PAGES
from llm_platform.operations.watching.drift import latest_report, live_accuracy, to_label
from llm_platform.records import Interval, Release, RolloutEvent
from llm_platform.records.evaluation import whom
from llm_platform.records.figures import bounded
from llm_platform.records.rollout import RolloutStep
from llm_platform.review.status import (
    ApplicationStatus,
    DocumentCounts,
    DriftStanding,
    EndpointStanding,
    LiveAccuracy,
    MeasuredShare,
    NamespaceStatus,
    OpenAlert,
    PlatformStatus,
    ServingStatus,
    Spending,
    UnderWay,
    Used,
    VariantStatus,
    WaitsFor,
    Work,
)
from llm_platform.rollout.decision import StageEvidence, waits_for_people
from llm_platform.warehouse.alerts import Alert
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

CARDS = {"card": "Report card", "drift": "Drift", "adapters": "Adapters"}
"""Files beside an application's report card, and what they are called."""
NOTHING_MEASURED = "nothing was measured yet"
TRAIN = "nobody has trained its adapter: llm-platform adapter train {}"
SILENT_SECONDS = 15.0
UNFITTED = "not fitted yet"
STALE_LOOK = timedelta(hours=6)


def platform_status(
    lake: Warehouse,
    applications: Mapping[str, LoadedApplication],
    *,
    namespace: str,
    broken: Mapping[str, str],
    cards_folder: Path,
    progress_folder: Path,
    now: datetime,
) -> PlatformStatus:
    """Where everything in a namespace stands."""
    return PlatformStatus(
        at=now,
        platform=platform_of(lake, applications, namespace=namespace, broken=broken),
        applications=tuple(
            application_status(lake, loaded, cards_folder=cards_folder / name, now=now).model_copy(
                update={"under_way": works_under_way(lake.application(name), loaded, progress_folder, now=now)}
            )
            for name, loaded in applications.items()
        ),
    )


def platform_of(
    lake: Warehouse, applications: Collection[str], *, namespace: str, broken: Mapping[str, str]
) -> NamespaceStatus:
    """What belongs to no application that can be used."""
    alerts = tuple(open_alert(one) for one in lake.alerts.open() if one.application not in applications)
    return NamespaceStatus(namespace=namespace, broken=dict(broken), alerts=alerts)


def application_status(
    lake: Warehouse, loaded: LoadedApplication, *, cards_folder: Path, now: datetime
) -> ApplicationStatus:
    """Where one application stands. It only reads: the lake and the files; no model is asked.

    Args:
        cards_folder: Where its cards are.
    """
    store = lake.application(loaded.application.name)
    alerts, looks = lake.alerts.open(), lake.endpoint_metrics.latest().to_pylist()
    application = loaded.application
    champion = store.rollout.champion()
    counts = store.documents.counts()
    serving = (
        None if champion is None else _serving(store, store.published.present(application.publish.contract), champion)
    )
    serves = champion.release_id if champion is not None else None
    challengers = tuple(one for one in _variants(store, loaded) if one.release_id is None or one.release_id != serves)
    documents = DocumentCounts(
        total=sum(counts.values()),
        sendable=counts.get("sendable", 0),
        unsendable={status: count for status, count in counts.items() if status != "sendable"},
    )
    endpoints = tuple(_endpoints(store, loaded, looks, pages=cards_folder.parent / ENDPOINT_PAGES, now=now))
    found = ApplicationStatus(
        name=application.name,
        title=application.title,
        owners=application.owners,
        serving=serving,
        nothing_serves=_nothing_serves(challengers),
        challengers=challengers,
        last_run=_last_run(store, loaded),
        documents=documents,
        drift=_drift(store),
        live=_live(store, loaded) if champion is not None else None,
        spending=_spending(store, loaded, now=now),
        endpoints=endpoints,
        alerts=tuple(open_alert(one) for one in alerts if one.application == application.name),
        waiting=(),
        cards={name: title for name, title in CARDS.items() if (cards_folder / f"{name}.html").is_file()},
    )
    return found.model_copy(update={"waiting": tuple(_waiting(store, loaded, found))})


def _variants(store: ApplicationStore, loaded: LoadedApplication) -> Iterator[VariantStatus]:
    """Every variant with what `promote` would say of it: the one verdict that everything else goes by."""
    evaluation_id = current_evaluation_id(store, loaded)
    stages = {step.release_id: f"{step.stage_name}, {step.status}" for step in open_rollouts(store)}
    for name in loaded.application.judged:
        release = loaded.release(name, store)
        if release is None:
            waits = loaded.requesting(name, store) is None
            state, why = ("not trained yet", TRAIN) if waits else (UNFITTED, "the next run fits its calibration")
            yield _challenger(name, None, state, why.format(loaded.application.name))
            continue
        report = _newest_report(store, release)
        state, why = _standing(store, loaded, name, release, report, evaluation_id=evaluation_id)
        missing = 0
        if release.recorded is None:
            asked = asked_documents(store, loaded.application, requesting(release))
            missing = store.completions.missing_count(release.release_id, documents=asked)
        accuracy = None if report is None else _measured(report.accuracy)
        challenger = _challenger(name, release.release_id, state, why, accuracy=accuracy, missing=missing)
        yield challenger.model_copy(update={"stage": stages.get(release.release_id, "")})


def _challenger(
    name: str, release_id: str | None, state: str, why: str, *, accuracy: MeasuredShare | None = None, missing: int = 0
) -> VariantStatus:
    return VariantStatus(variant=name, release_id=release_id, state=state, why=why, accuracy=accuracy, missing=missing)


def _standing(
    store: ApplicationStore,
    loaded: LoadedApplication,
    name: str,
    release: Release,
    report: Report | None,
    *,
    evaluation_id: str,
) -> tuple[str, str]:
    """(state, why) of a release, as `promote` would say it."""
    if release.recorded is not None:
        return "recorded", "answers of another system, for comparison"
    if report is None:
        return "no report", "nothing was measured of it yet"
    if present_report(store, loaded, release, evaluation_id=evaluation_id) is None:
        return "no report", "documents, answers, known answers or gates have changed since its last one"
    failed = [gate for gate in report.gates if not gate.passed]
    if failed:
        return report.standing, f"{failed[0].name.replace('_', ' ')}: {failed[0].comparison}"
    try:
        evidence(store, loaded, name, release=release, evaluation_id=evaluation_id)
    except EvidenceMissing as error:
        return "withheld", str(error).partition("\n")[0]
    return "may serve", "it clears every gate"


def _newest_report(store: ApplicationStore, release: Release) -> Report | None:
    row = store.reports.latest(release.release_id)
    return None if row is None else Report.model_validate_json(row.report)


def _measured(found: Interval | None) -> MeasuredShare | None:
    if found is None:
        return None
    return MeasuredShare(value=found.value, lower=found.lower, upper=found.upper, count=found.count)


def _serving(store: ApplicationStore, contract: int, champion: RolloutEvent) -> ServingStatus:
    release = store.releases.get(champion.release_id)
    row = store.reports.get(champion.report_id)
    report = Report.model_validate_json(row.report) if row is not None else None
    newest = store.reports.latest(champion.release_id)
    later = Report.model_validate_json(newest.report) if newest is not None else None
    failed = [] if later is None else [gate for gate in later.gates if not gate.passed]
    return ServingStatus(
        variant=champion.variant,
        release_id=champion.release_id,
        model="" if release is None else release.model.entry,
        prompt="" if release is None else f"{release.prompt.name}, version {release.prompt.version}",
        since=champion.at,
        by=whom(champion.by),
        note=champion.note,
        action=champion.action,
        report_id=champion.report_id,
        accuracy=None if report is None else _measured(report.accuracy),
        gates=tuple(f"{gate.name.replace('_', ' ')}: {gate.comparison}" for gate in champion.evidence),
        rows=store.published.count(contract),
        missing=store.completions.missing_count(champion.release_id),
        holds=None
        if later is None
        else "its newest report says that it may serve"
        if not failed
        else f"its newest report does not pass: {failed[0].name.replace('_', ' ')}, {failed[0].comparison}",
    )


def _nothing_serves(challengers: Sequence[VariantStatus]) -> str:
    if any(one.state == "may serve" for one in challengers):
        return "a variant may serve, and somebody has to promote it"
    if all(one.state in ("no report", "not trained yet", UNFITTED) for one in challengers):
        return NOTHING_MEASURED
    return "no variant clears its gates"


def works_under_way(
    store: ApplicationStore, loaded: LoadedApplication, folder: Path, *, now: datetime
) -> tuple[UnderWay, ...]:
    """What is being asked now of an application, on any machine that shares the state folder."""
    return tuple(
        UnderWay(
            variant=_variant_of(store, loaded, one.release_id),
            run_id=one.run_id,
            done=one.done,
            total=one.total,
            tokens_per_second=one.tokens_per_second,
            seconds_left=one.seconds_left,
            used=Used(tokens=one.tokens, cost_usd=one.cost_usd),
            expected=None
            if one.expected_tokens is None
            else Used(tokens=one.expected_tokens, cost_usd=one.expected_usd),
            failed=one.failed,
            retries=one.retries,
            silent=silence if (silence := (now - one.at).total_seconds()) > SILENT_SECONDS else None,
        )
        for one in under_way(folder, store.name, now=now)
    )


def _last_run(store: ApplicationStore, loaded: LoadedApplication) -> Work | None:
    run = store.runs.newest()
    if run is None:
        return None
    return Work(
        variant=_variant_of(store, loaded, run.release_id),
        run_id=run.run_id,
        started_at=run.started_at,
        seconds=run.seconds,
        sent=run.sent,
        stored=run.stored,
        failed=run.failed,
        tokens_per_second=run.tokens_per_second,
        causes=run.causes,
    )


def _variant_of(store: ApplicationStore, loaded: LoadedApplication, release_id: str) -> str:
    for name in loaded.application.variants:
        release = loaded.requesting(name, store)
        if release is not None and release.release_id == release_id:
            return name
    champion = store.rollout.champion()
    release = None if champion is None else store.releases.get(champion.release_id)
    is_champions = champion is not None and release is not None and requesting(release).release_id == release_id
    return champion.variant if champion is not None and is_champions else release_id


def _drift(store: ApplicationStore) -> DriftStanding | None:
    report = latest_report(store)
    if report is None:
        return None
    return DriftStanding(
        state=report.state,
        drifted=report.drifted,
        told=sum(found.verdict != "cannot tell" for found in report.measurements),
        of=len(report.measurements),
        at=report.created_at,
    )


def _live(store: ApplicationStore, loaded: LoadedApplication) -> LiveAccuracy:
    found = live_accuracy(store, loaded.application)
    text = "no label yet" if found.value is None else bounded(found.value, found.lower, found.upper)
    return LiveAccuracy(text=text, standing=found.standing, labelled=found.labelled, drawn=found.drawn)


def _spending(store: ApplicationStore, loaded: LoadedApplication, *, now: datetime) -> Spending:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = used_since(store, loaded, month_of(now))
    newest = store.runs.newest()
    budget = loaded.application.budget
    spent = spent_by(store, loaded, None if newest is None else newest.run_id, now=now)
    line = budget_line(budget, spent, waiting=0) if budget.is_set and newest is not None else None
    of_month = month_parts(budget.month, tokens=month[0], cost_usd=month[1] or 0.0)
    return Spending(
        today=_used(used_since(store, loaded, day)),
        month=_used(month),
        budget=line,
        month_budget=", ".join(part.removesuffix(" this month") for part in of_month) or None,
        month_over=month_used_up(budget.month, spent, newest),
    )


def _used(found: tuple[int, float | None]) -> Used:
    return Used(tokens=found[0], cost_usd=found[1])


def _endpoints(
    store: ApplicationStore,
    loaded: LoadedApplication,
    looks: Sequence[Mapping[str, Any]],
    *,
    pages: Path,
    now: datetime,
) -> Iterator[EndpointStanding]:
    for name, entry in loaded.lock.items():
        has_page = (pages / f"{name}.html").is_file()
        found = [look for look in looks if look["entry"] == name]
        seen = store.models.latest(name)
        if seen is not None and not seen.matches:
            note = "it is not what models.lock.yaml pins"
            yield EndpointStanding(entry=name, state="another model", note=note, at=seen.observed_at, has_page=has_page)
        elif not found:
            resting = entry.mode == "embedded"
            note = "it starts on use" if resting else "llm-platform monitor endpoints --look"
            yield EndpointStanding(
                entry=name, state="resting" if resting else "not looked at", note=note, at=None, has_page=has_page
            )
        else:
            ill = [look for look in found if not look["healthy"]]
            at = max(look["scraped_at"] for look in found)
            ready = f"{len(found) - len(ill)} of {counted(len(found), 'endpoint')} ready"
            old = "; the last look is old" if now - at > STALE_LOOK else ""
            state = "ready" if not ill else "not ready"
            note = ready + (f", {ill[0]['reason']}" if ill else "") + old
            yield EndpointStanding(entry=name, state=state, note=note, at=at, has_page=has_page)


def open_alert(one: Alert) -> OpenAlert:
    """An alert as pages and `status` show it."""
    return OpenAlert(
        kind=one.kind,
        application=one.application,
        variant=one.variant,
        message=one.message,
        since=one.created_at,
        link=one.link,
    )


def _waiting(store: ApplicationStore, loaded: LoadedApplication, found: ApplicationStatus) -> Iterator[WaitsFor]:
    """What waits for whom, those first who keep readers from something."""
    name, running = found.name, open_rollouts(store)
    by_stages = found.serving is not None and bool(loaded.application.rollout.stages)
    yield from _for_the_owner(
        found, entered={one.release_id for one in running}, enter="rollout start" if by_stages else "promote"
    )
    yield from _of_rollouts(name, running)
    for one in found.endpoints:
        if one.state in ("not ready", "another model"):
            command = "llm-platform monitor endpoints --look"
            if one.state == "another model":
                command = f"llm-platform model verify {one.entry}"
            yield WaitsFor(who="the operator", what=f"{one.entry} is {one.state}: {one.note}", command=command)
    for alert in found.alerts:
        if alert.kind == HELD:
            continue  # said above, with what to do
        ours = alert.kind.startswith(("endpoint", "run"))
        yield WaitsFor(who="the operator" if ours else "the owner", what=alert.message)
    opposed = store.annotations.basis_counts().get("opposed", 0)
    if opposed:
        what = f"{counted(opposed, 'document')} on which people disagree"
        yield WaitsFor(who="an adjudicator", what=what, page="queue/adjudication")
    labels = len(to_label(store)) if found.serving is not None else 0
    if labels:
        what = f"{counted(labels, 'recent document')} drawn for a label"
        yield WaitsFor(who="a reviewer", what=what, page="queue/drawn")
    if found.drift is not None and found.drift.state == "drifted":
        what = f"{', '.join(found.drift.drifted)} drifted since the promotion"
        yield WaitsFor(who="the owner", what=what, page="cards/drift")
    unsendable = found.documents.total - found.documents.sendable
    if unsendable:
        what = f"{counted(unsendable, 'document')} that cannot be sent: {', '.join(found.documents.unsendable)}"
        yield WaitsFor(who="the source's owner", what=what)
    missing = max(
        [one.missing for one in found.challengers] + ([found.serving.missing] if found.serving else []), default=0
    )
    if missing and found.spending.month_over:
        what = f"the budget of the month is used up ({found.spending.month_budget}), and documents wait for an answer"
        yield WaitsFor(who="the owner", what=what)
    elif missing:
        what = f"up to {counted(missing, 'document')} without an answer"
        yield WaitsFor(who="the next run", what=what, command=f"llm-platform run {name}")
    elif found.serving is not None and (unfitted := [one for one in found.challengers if one.state == UNFITTED]):
        what = f"{', '.join(one.variant for one in unfitted)}: new, with a calibration to be fitted"
        yield WaitsFor(who="the next run", what=what, command=f"llm-platform run {name}")


def _of_rollouts(name: str, running: Sequence[RolloutStep]) -> Iterator[WaitsFor]:
    for step in running:
        if step.status == "running" and waits_for_people(step.reasons):
            roles = step.stages().stages[step.stage].roles
            what = f"{step.variant} has shown at {step.stage_name} what it must: {'; '.join(step.reasons)}"
            command = f"llm-platform rollout promote {name} {step.variant}"
            yield WaitsFor(
                who="an adjudicator" if roles == ("adjudicator",) else "the owner", what=what, command=command
            )
        if step.status == "held":
            why = f": {'; '.join(step.reasons)}" if step.reasons else ""
            what = f"{step.variant} is held at {step.stage_name}{why}"
            # What has moved underneath moves no further, whoever resumes it.
            seen = None if step.evidence is None else StageEvidence.model_validate_json(step.evidence)
            verb = "resume" if seen is None or seen.void is None else "withdraw"
            yield WaitsFor(who="the owner", what=what, command=f"llm-platform rollout {verb} {name} {step.variant}")


def _first_run(found: ApplicationStatus) -> str:
    """What brings the first answers: documents of a shipped application are loaded by its demo."""
    is_shipped = found.name in SAMPLES and not found.documents.total
    return f"llm-platform demo --application {found.name}" if is_shipped else f"llm-platform run {found.name}"


def _for_the_owner(found: ApplicationStatus, *, entered: Collection[str], enter: str) -> Iterator[WaitsFor]:
    best = max(
        (one for one in found.challengers if one.state == "may serve" and one.release_id not in entered),
        key=lambda one: one.accuracy.lower if one.accuracy is not None else 0.0,
        default=None,
    )
    if best is not None:
        known = "" if best.accuracy is None else f", accuracy {best.accuracy.text}"
        beside = "and nothing serves" if found.serving is None else f"beside {found.serving.variant}"
        what = f"{best.variant} may serve{known}, {beside}"
        yield WaitsFor(
            who="the owner", what=what, page="cards/card", command=f"llm-platform {enter} {found.name} {best.variant}"
        )
    if found.serving is not None and found.serving.holds is not None and "does not pass" in found.serving.holds:
        what = f"{found.serving.variant} serves, and {found.serving.holds}"
        yield WaitsFor(who="the owner", what=what, page="cards/card", command=f"llm-platform rollback {found.name}")
    if found.serving is None and best is None:
        unmeasured = found.nothing_serves == NOTHING_MEASURED
        yield WaitsFor(
            who="the next run" if unmeasured else "the owner",
            what=f"nothing serves: {found.nothing_serves}",
            page="cards/card" if "card" in found.cards else None,
            command=_first_run(found) if unmeasured else None,
        )
