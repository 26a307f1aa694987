"""What a lake needs by itself: its small files merged, and what is older than the policy keeps it let go of."""

# Annotations are evaluated here: Dagster reads those of an op's context.
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.operations.privacy.retention import let_go
from llm_platform.operations.releases import LoadedApplication
from llm_platform.resources.dagster_history import forget_runs
from llm_platform.resources.forgetting import forgetting
from llm_platform.resources.handed import places_of
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings

COMPACTION, RETENTION = "lake_compaction", "lake_retention"


def care_definitions(settings: Settings, applications: Mapping[str, LoadedApplication]) -> dg.Definitions:
    """The jobs, and schedules at the times of the settings.

    A document is forgotten in every namespace, so a branch, whose files may say other days, does not do it by itself.
    """
    jobs = {
        COMPACTION: (
            _compacted(settings),
            settings.compaction_schedule,
            "Merge small files, and let go of old snapshots.",
        ),
        RETENTION: (
            _let_go(settings, applications),
            settings.retention_schedule,
            "Let go of rows, documents and runs that are older than the policy keeps them.",
        ),
    }
    running = dg.DefaultScheduleStatus.RUNNING if settings.sensors else dg.DefaultScheduleStatus.STOPPED
    made = {name: _job(name, op, description, settings) for name, (op, _, description) in jobs.items()}
    return dg.Definitions(
        jobs=list(made.values()),
        schedules=[
            dg.ScheduleDefinition(job=made[name], cron_schedule=when, default_status=running)
            for name, (_, when, _) in jobs.items()
            if when and not (name == RETENTION and settings.upstream_namespace is not None)
        ],
    )


def _job(
    name: str, does: Callable[[dg.OpExecutionContext], None], description: str, settings: Settings
) -> dg.JobDefinition:
    op = dg.op(name=f"do_{name}", required_resource_keys={"warehouse"})(does)
    tags = {"llm_platform/namespace": settings.namespace}

    @dg.job(name=name, description=description, tags=tags)
    def job() -> None:
        op()

    return job


def _compacted(settings: Settings) -> Callable[[dg.OpExecutionContext], None]:
    def compacted(context: dg.OpExecutionContext) -> None:
        warehouse: WarehouseResource = context.resources.warehouse
        with dagster_failures(context), warehouse.open() as lake:
            context.log.info(lake.compact(keep_days=settings.snapshot_days).line)

    return compacted


def _let_go(settings: Settings, loaded: Mapping[str, LoadedApplication]) -> Callable[[dg.OpExecutionContext], None]:
    def let_go_of(context: dg.OpExecutionContext) -> None:
        warehouse: WarehouseResource = context.resources.warehouse
        known = {name: one.application for name, one in loaded.items()}
        now = datetime.now(UTC)
        with dagster_failures(context), warehouse.open() as lake:
            work = forgetting(warehouse, copies=lambda name, namespace: places_of(known[name], namespace))
            found, done = let_go(lake, list(known.values()), settings.retention_days, forgetting=work, now=now)
        runs = forget_runs(context.instance, days=settings.retention_days["events"], now=now)
        gone = ", ".join(f"{count} of {name}" for name, count in found.rows.items() if count)
        context.log.info(f"Gone: {gone or 'no rows'}; {runs} runs of Dagster. Certificates: {len(done)}.")

    return let_go_of
