"""Reactions to tables that others write."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import hashlib

import dagster as dg

from llm_platform.defs.graph import Graph
from llm_platform.errors import ContractBroken, PlatformError
from llm_platform.operations.documents import consumed_and_current
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings import Settings

DEFAULT_INTERVAL_SECONDS = 30


def source_version(token: str) -> dg.DataVersion:
    """Data version of a source table in a state."""
    return dg.DataVersion(hashlib.sha256(token.encode()).hexdigest()[:16])


def source_changed_sensor(graph: Graph, *, source: dg.AssetSpec, job_name: str) -> dg.SensorDefinition:
    """Ask for a run when the source table has moved past what `documents` consumed.

    What was consumed is committed with the documents, so a run that fails loses nothing: the difference is still there
    at the next tick. The run key holds both states and the number of runs that already failed between them, so a
    repeated tick asks for nothing twice and a failed run is asked for again.
    """
    application = graph.application

    @dg.sensor(
        name=f"{application.name}_source_changed",
        job_name=job_name,
        minimum_interval_seconds=DEFAULT_INTERVAL_SECONDS,
        default_status=_status(graph.settings),
        description=f"Follows {application.source.address}: inserts, updates and deletes become one run.",
    )
    def source_changed(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            with warehouse.open() as lake:
                consumed, current = consumed_and_current(lake, graph.candidates)
        except ContractBroken as error:
            # A run shows it: the check on the columns fails there, where people look.
            return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"broken:{_digest(str(error))}")])
        except PlatformError as error:
            return dg.SkipReason(f"{application.source.address} cannot be read: {error}")
        if consumed is not None and consumed.token == current.token:
            return dg.SkipReason(f"{application.source.address} is as documents consumed it")
        change = f"{consumed.token if consumed else 'nothing'}->{current.token}"
        active, failed = _runs_for(context, change)
        if active:
            return dg.SkipReason(f"a run for the change of {application.source.address} is under way")
        version = source_version(current.token)
        seen = dg.AssetMaterialization(source.key, tags={"dagster/data_version": version.value})
        request = dg.RunRequest(
            run_key=f"{change}:{failed}", tags={CHANGE_TAG: _digest(change), "llm_platform/trigger": "source changed"}
        )
        return dg.SensorResult(run_requests=[request], asset_events=[seen])

    return source_changed


CHANGE_TAG = "llm_platform/source_change"


def _digest(change: str) -> str:
    return hashlib.sha256(change.encode()).hexdigest()[:16]


def _runs_for(context: dg.SensorEvaluationContext, change: str) -> tuple[int, int]:
    """(runs under way, runs that ended without success) for one change of the source."""
    runs = context.instance.get_runs(dg.RunsFilter(tags={CHANGE_TAG: _digest(change)}))
    active = sum(not run.is_finished for run in runs)
    failed = sum(run.is_finished and not run.is_success for run in runs)
    return active, failed


def _status(settings: Settings) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if settings.sensors else dg.DefaultSensorStatus.STOPPED
