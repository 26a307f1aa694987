"""`models/endpoint_metrics_<entry>`: what the endpoints of an entry say of themselves, looked at every few minutes.

A look that finds what the one before it found is stored, and that is all: a run for each would fill the list of runs.
Where something has changed, a run says so, with its checks, which alerts are made of.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from llm_platform.defs.failures import dagster_failures, sensor_failures
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.models.entries import LockEntry
from llm_platform.operations.serving.endpoint_page import ENDPOINT_PAGES, write_endpoint_page
from llm_platform.operations.serving.monitoring import ERROR_RATE_REASON, QUEUE_REASON, Held, Place, Watched, watch
from llm_platform.resources.handed import local_nim
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse

JOB = "endpoint_monitoring"
EVERY_SECONDS = 300

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
        with dagster_failures(context), warehouse.open() as lake:
            watched, page = _look(lake, entry, nim, applications, settings)
        for name, held in _properties(watched).items():
            yield _checked(name, held)
        yield dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.text(str(page)),
                **_link(settings, applications, entry),
                **_numbers(watched),
            }
        )

    return endpoint_metrics


def monitoring_definitions(
    assets: Mapping[str, dg.AssetsDefinition],
    entries: Mapping[str, LockEntry],
    users: Mapping[str, Sequence[str]],
    settings: Settings,
) -> dg.Definitions:
    """The job that looks at every endpoint, and the sensor that looks by itself.

    Args:
        assets: Lock entry → what its endpoints say.
        entries: The lock file.
        users: Lock entry → applications that name it.
        settings: Of the deployment.
    """
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*assets.values()),
        description="Look at every endpoint of the lock file. Nothing is asked of a model, and nothing is started.",
        tags={"llm_platform/namespace": settings.namespace},
    )
    running = dg.DefaultSensorStatus.RUNNING if settings.sensors else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="endpoints",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=running,
        required_resource_keys={"warehouse", *map(resource_key, assets)},
        description="Looks at every endpoint. A look that finds something new becomes a run; the others are stored.",
    )
    def endpoints(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        before = json.loads(context.cursor or "{}")
        warehouse: WarehouseResource = context.resources.warehouse
        with sensor_failures(), warehouse.open() as lake:
            now = {
                name: _found(
                    _look(lake, entries[name], getattr(context.resources, resource_key(name)), names, settings)[0]
                )
                for name, names in users.items()
            }
        context.update_cursor(json.dumps(now))
        changed = [name for name in now if now[name] != before.get(name)]
        if not changed:
            return dg.SkipReason("every endpoint is as it was at the last look")
        return dg.RunRequest(
            asset_selection=[assets[name].key for name in changed],
            tags={"llm_platform/trigger": f"endpoints of {', '.join(changed)} have changed"},
        )

    return dg.Definitions(assets=list(assets.values()), jobs=[job], sensors=[endpoints])


def _look(
    lake: Warehouse, entry: LockEntry, nim: NIMResource, applications: Sequence[str], settings: Settings
) -> tuple[Watched, Path]:
    """(what one look found, which is stored; the page that shows it)."""
    place = Place(local_nim(settings), nim.connection(), settings.nim_cluster_namespace)
    watched = watch(lake, entry, place, now=datetime.now(UTC))
    return watched, write_endpoint_page(
        lake, watched, entry, applications, folder=settings.cards_folder / ENDPOINT_PAGES
    )


def _properties(watched: Watched) -> dict[str, Held]:
    return dict(zip(CHECKS, (watched.healthy, watched.queue, watched.errors), strict=True))


def _found(watched: Watched) -> dict[str, bool | None]:
    """What its checks would be."""
    return {name: held.passed if held.told else None for name, held in _properties(watched).items()}


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
