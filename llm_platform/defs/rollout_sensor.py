"""`<application>_rollout`: a sensor that decides on rollouts and on what serves, without a person."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from llm_platform.defs.failures import sensor_failures
from llm_platform.defs.graph import Graph
from llm_platform.errors import PlatformError
from llm_platform.operations.release.watching import watch_rollouts
from llm_platform.resources.handed import rollout_look
from llm_platform.resources.warehouse import WarehouseResource

TRIGGER = "rollout"


def rollout_sensor(
    graph: Graph, *, job_name: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Decide on every rollout and on what serves; ask for a run where readers get something else from now on.

    A decision is stored before a run is asked for. A tick that is killed in between loses the request alone: the next
    run publishes what was decided, and for a canary that was withdrawn the next tick asks again.
    """
    application = graph.application

    @dg.sensor(
        name=f"{application.name}_rollout",
        job_name=job_name,
        minimum_interval_seconds=graph.settings.sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if graph.settings.sensors else dg.DefaultSensorStatus.STOPPED,
        description=f"Promotes, holds and withdraws challengers of {application.title} by evidence and guards.",
    )
    def rollout(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult | dg.SkipReason:
        with sensor_failures():
            return look(context, warehouse)

    def look(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult | dg.SkipReason:
        now = clock()
        try:
            with warehouse.open() as lake:
                # Nothing was stored, and no hour has passed: the same would be decided again.
                mark = _digest(f"{lake.snapshot()}:{now:%Y-%m-%d %H}")
                if context.cursor == mark:
                    return dg.SkipReason("nothing has changed since the last look")
                watched = watch_rollouts(
                    lake,
                    graph.loaded,
                    look=rollout_look(graph.settings, now=now),
                    quiet=timedelta(hours=graph.settings.alert_quiet_hours),
                )
                after = _digest(f"{lake.snapshot()}:{now:%Y-%m-%d %H}")
        except PlatformError as error:
            return dg.SkipReason(f"Nothing was decided: {error}")
        said = "; ".join(watched.lines) or "no rollout is running"
        changes = watched.changes_readers or watched.changes_asking
        if not changes and watched.still_read is None:
            return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=after)
        # Of one withdrawal a run is asked for once, whichever tick does it: Dagster knows the key.
        withdrawn_now = any(one.is_news and one.step.step_id == watched.still_read for one in watched.decided)
        key = watched.still_read if withdrawn_now or not changes else after
        request = dg.RunRequest(run_key=f"{TRIGGER}:{key}", tags={"llm_platform/trigger": TRIGGER})
        return dg.SensorResult(run_requests=[request], cursor=after)

    return rollout


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
