"""`alerts`: a sensor that turns ended runs into alerts, and sends what is pending.

One sensor that keeps its own cursor, rather than Dagster's sensors on run status: when the lake cannot be written the
cursor stays, and the runs are looked at again, where a sensor on run status would have moved on.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from llm_platform.application.model import Application
from llm_platform.defs.failures import KIND, sensor_failures
from llm_platform.defs.measuring import checks_of, say_unmeasured
from llm_platform.defs.runs import APPLICATION_TAG
from llm_platform.errors import PlatformError
from llm_platform.operations.watching.alerts import CheckSeen, RunSeen, deliver, events_of_run, note
from llm_platform.operations.watching.slots import slot_events
from llm_platform.resources.alerts import AlertsResource
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
NAMESPACE_TAG = "llm_platform/namespace"
OVERLAP = timedelta(minutes=10)
"""Runs of other machines may be stored late; a run seen twice is told once."""

MOST_RUNS = 200
"""Ended runs of one tick; a tick has 60 seconds."""


@dataclass(frozen=True)
class Cursor:
    """How far ended runs have been looked at: the latest end, and the runs that ended within the overlap before it."""

    end: float
    seen: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str | None, *, now: datetime) -> "Cursor":
        """From a stored cursor; at the first tick from now on, since history is no news."""
        return cls(now.timestamp()) if text is None else cls(**json.loads(text))

    def written(self) -> str:
        """As it is stored."""
        return json.dumps({"end": self.end, "seen": list(self.seen)})


def alerts_sensor(
    settings: Settings,
    applications: Sequence[Application] = (),
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Tell people of failed runs and checks and of slots that hold back too much, and that they have recovered."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.sensors else dg.DefaultSensorStatus.STOPPED,
        description="Turns failed runs and checks into alerts, and sends them until they have arrived.",
    )
    def alerts(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource, alerts: AlertsResource
    ) -> dg.SensorResult | dg.SkipReason:
        with sensor_failures():
            return look(context, warehouse, alerts)

    def look(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource, alerts: AlertsResource
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock()
        cursor = Cursor.read(context.cursor, now=now)
        records = _ended(context.instance, cursor, settings.namespace)
        try:
            channels = alerts.channels()
            with warehouse.open() as lake:
                news = 0
                for record in records:
                    if record.dagster_run.is_failure:
                        say_unmeasured(context.instance, record.dagster_run.run_id)
                    events = events_of_run(run_seen(context.instance, record), link=lambda run: _link(alerts, run))
                    news += len(note(lake, events, now=now, quiet=alerts.quiet))
                news += len(note(lake, slot_events(lake, applications), now=now, quiet=alerts.quiet))
                done = deliver(lake, channels, now=now)
        except PlatformError as error:
            return dg.SkipReason(f"Alerts wait, nothing is lost: {error}")
        text = f"{len(records)} runs ended, {news} new alerts, {done.sent} sent, {done.failed} not delivered yet"
        return dg.SensorResult(skip_reason=dg.SkipReason(text), cursor=_moved(cursor, records).written())

    return alerts


def run_seen(instance: dg.DagsterInstance, record: dg.RunRecord) -> RunSeen:
    """An ended run, as alerts see it."""
    run = record.dagster_run
    selected = sorted(key.path[0] for key in run.asset_selection or ())
    application = run.tags.get(APPLICATION_TAG) or (selected[0] if len(set(selected)) == 1 else "")
    reason, cause = _reason(instance, run.run_id) if run.is_failure else ("", "")
    return RunSeen(
        run_id=run.run_id,
        job=run.job_name,
        application=application,
        failed=run.is_failure,
        reason=reason,
        is_contract=cause == "ContractBroken",
        checks=_checks(instance, run.run_id),
    )


def _ended(instance: dg.DagsterInstance, cursor: Cursor, namespace: str) -> list[dg.RunRecord]:
    """Runs that ended since the cursor, in the order of their ends."""
    start = datetime.fromtimestamp(cursor.end, UTC) - OVERLAP
    records = instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=start),
        limit=MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    # A tag given to an old run moves its update, and not its end.
    recent = [record for record in records if (record.end_time or 0.0) > start.timestamp()]
    own = [one for one in recent if one.dagster_run.tags.get(NAMESPACE_TAG, namespace) == namespace]
    new = [record for record in own if record.dagster_run.run_id not in cursor.seen]
    return sorted(new, key=lambda record: record.end_time or 0.0)


def _moved(cursor: Cursor, records: list[dg.RunRecord]) -> Cursor:
    end = max([cursor.end, *(record.end_time or 0.0 for record in records)])
    return Cursor(end, (*cursor.seen, *(record.dagster_run.run_id for record in records))[-MOST_RUNS:])


def _reason(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str]:
    """What a run failed with, and the name of the error, if it was raised on purpose; other messages may hold text."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.dagster_event.step_failure_data if entry.dagster_event else None
        if data is None or data.user_failure_data is None:
            continue
        kind = data.user_failure_data.metadata.get(KIND)
        return data.user_failure_data.description or "", str(kind.value) if kind else ""
    return "See its log.", ""


def _checks(instance: dg.DagsterInstance, run_id: str) -> tuple[CheckSeen, ...]:
    found = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        if entry.dagster_event is None:
            continue
        check = entry.dagster_event.asset_check_evaluation_data
        found.append(
            CheckSeen(
                asset=tuple(check.asset_key.path),
                check=check.check_name,
                passed=check.passed,
                is_error=check.severity is dg.AssetCheckSeverity.ERROR,
                description=check.description or "",
            )
        )
    # What can be measured no longer is no trouble any more: a champion after the one that drifted, a model that rests.
    found += [
        CheckSeen(tuple(key.asset_key.path), key.name, passed=True, is_error=False, description="nothing to measure")
        for key, held in checks_of(instance, run_id).items()
        if held is None
    ]
    return tuple(found)


def _link(alerts: AlertsResource, run: RunSeen) -> str:
    return f"{alerts.ui_url.rstrip('/')}/runs/{run.run_id}" if alerts.ui_url else ""
