"""`models/nim_pods_<entry>`: a model's pods, up; and the job that takes down what nobody asks any more.

Both are asked for by name: no everyday job starts or ends a pod.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.models.entries import LockEntry
from llm_platform.operations.serving.bringing_up import bring_model_up
from llm_platform.operations.serving.idle_models import take_idle_down
from llm_platform.resources.handed import serving_of
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings

JOB = "idle_models_down"
EVERY_FIVE_MINUTES = "2-59/5 * * * *"
"""Two minutes after the looks at endpoints."""


def nim_pods_asset(entry: LockEntry, settings: Settings) -> dg.AssetsDefinition:
    """The pods of a lock entry; materialized, they are up, are what the lock file pins, and have given a token."""

    @dg.asset(
        key=dg.AssetKey(["models", f"nim_pods_{entry.name}"]),
        group_name="models",
        kinds={"nim", "kubernetes"},
        description=f"Pods of {entry.served_name} in the cluster, up: what `llm-platform nim up {entry.name}` does.",
    )
    def nim_pods(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with dagster_failures(context):
            up = bring_model_up(entry, serving_of(settings), report=context.log.info)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(up.image_digest or ""),
            metadata={
                "endpoint": up.endpoint,
                "image_digest": up.image_digest or "",
                "seconds_to_token": round(up.seconds, 1),
                "done": up.done,
            },
        )

    return nim_pods


def nim_pods_definitions(entries: Sequence[LockEntry], settings: Settings) -> dg.Definitions:
    """Pods of all entries that this platform runs in a cluster, and the job that scales them to zero."""
    ours = [entry for entry in entries if entry.mode == "kubernetes"]
    if not ours:
        return dg.Definitions()
    job = _idle_job(ours, settings)
    minutes = settings.nim_idle_down_minutes
    running = dg.DefaultScheduleStatus.RUNNING if settings.sensors and minutes else dg.DefaultScheduleStatus.STOPPED
    schedule = dg.ScheduleDefinition(job=job, cron_schedule=EVERY_FIVE_MINUTES, default_status=running)
    return dg.Definitions(assets=[nim_pods_asset(entry, settings) for entry in ours], jobs=[job], schedules=[schedule])


def _idle_job(entries: Sequence[LockEntry], settings: Settings) -> dg.JobDefinition:
    @dg.op(required_resource_keys={"warehouse"})
    def take_idle_models_down(context: dg.OpExecutionContext) -> None:
        warehouse: WarehouseResource = context.resources.warehouse
        with warehouse.open() as lake:
            for one in take_idle_down(
                lake, entries, serving_of(settings), now=datetime.now(UTC), report=context.log.info
            ):
                context.log.info(f"{one.entry}: {'taken down' if one.taken_down else 'left'}: {one.note}")

    @dg.job(
        name=JOB,
        description=(
            "Take down models that this deployment brought up in a cluster and that nobody has asked for "
            "LLM_PLATFORM_NIM_IDLE_DOWN_MINUTES; without that setting it does nothing."
        ),
        tags={"llm_platform/namespace": settings.namespace},
    )
    def idle_models_down() -> None:
        take_idle_models_down()

    return idle_models_down
