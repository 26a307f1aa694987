"""`models/endpoint_metrics_<entry>`: what the endpoints of a lock entry say of themselves, looked at on a schedule."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.models.entries import LockEntry
from llm_platform.operations.serving.endpoint_page import ENDPOINT_PAGES, write_endpoint_page
from llm_platform.operations.serving.monitoring import ERROR_RATE_REASON, QUEUE_REASON, Held, Place, Watched, watch
from llm_platform.resources.handed import local_nim
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings

JOB = "endpoint_monitoring"
EVERY_FIVE_MINUTES = "*/5 * * * *"

CHECKS = {
    "endpoints_healthy": "Every endpoint says that it is ready.",
    "queue_not_growing": QUEUE_REASON,
    "error_rate_at_most_maximum": ERROR_RATE_REASON,
}


def endpoint_metrics_asset(entry: LockEntry, applications: Sequence[str], settings: Settings) -> dg.AssetsDefinition:
    """What the endpoints of a lock entry say of themselves, appended at every look."""
    key = dg.AssetKey(["models", f"endpoint_metrics_{entry.name}"])

    spec = dg.AssetSpec(
        key,
        group_name="models",
        kinds={"nim"},
        description=f"Queue, throughput, latencies and errors of {entry.served_name}, as its endpoints count them.",
    )
    checks = [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in CHECKS.items()]

    @measuring_asset(spec, checks=checks, resources={"warehouse", resource_key(entry.name)})
    def endpoint_metrics(context: dg.AssetExecutionContext) -> Iterator[Said]:
        warehouse: WarehouseResource = context.resources.warehouse
        nim: NIMResource = getattr(context.resources, resource_key(entry.name))
        place = Place(local_nim(settings), nim.connection(), settings.nim_cluster_namespace)
        with dagster_failures(context), warehouse.open() as lake:
            watched = watch(lake, entry, place, now=datetime.now(UTC))
            page = write_endpoint_page(
                lake, watched, entry, applications, folder=settings.cards_folder / ENDPOINT_PAGES
            )
        for name, held in zip(CHECKS, (watched.healthy, watched.queue, watched.errors), strict=True):
            yield _checked(name, held)
        yield dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(str(page)),
                **_link(settings, applications, entry),
                **_numbers(watched),
            }
        )

    return endpoint_metrics


def monitoring_definitions(assets: Sequence[dg.AssetsDefinition], settings: Settings) -> dg.Definitions:
    """The job that looks at every endpoint, and its schedule."""
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*assets),
        description="Look at every endpoint of the lock file. Nothing is asked of a model, and nothing is started.",
        tags={"llm_platform/namespace": settings.namespace},
    )
    running = dg.DefaultScheduleStatus.RUNNING if settings.sensors else dg.DefaultScheduleStatus.STOPPED
    schedule = dg.ScheduleDefinition(job=job, cron_schedule=EVERY_FIVE_MINUTES, default_status=running)
    return dg.Definitions(assets=list(assets), jobs=[job], schedules=[schedule])


def _checked(name: str, held: Held) -> dg.AssetCheckResult | Unmeasured:
    if not held.told:
        return Unmeasured(name, held.note)
    return dg.AssetCheckResult(
        check_name=name,
        passed=held.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=held.note,
        metadata={**held.numbers, "reason": CHECKS[name]},
    )


def _link(settings: Settings, applications: Sequence[str], entry: LockEntry) -> dict[str, dg.MetadataValue]:
    """The page over HTTP, below the first application that uses the model."""
    if not applications:
        return {}
    return {"page_link": dg.MetadataValue.url(f"{settings.page_url}/{applications[0]}/endpoints/{entry.name}")}


def _numbers(watched: Watched) -> dict[str, float]:
    numbers = {"endpoints": float(len(watched.looks))}
    if not watched.series:
        return numbers
    last = watched.series[-1]
    found = {
        "running": last.running,
        "waiting": last.waiting,
        "requests_per_second": last.rate("requests"),
        "generation_tokens_per_second": last.rate("generation_tokens"),
        "end_to_end_p95_seconds": last.quantile("end_to_end", 0.95),
    }
    return numbers | {name: value for name, value in found.items() if value is not None}
