"""Look at every endpoint of a model: is it there, what does it say of itself, and how has that gone over time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from llm_platform.errors import EndpointUnavailable
from llm_platform.evaluation.statistics import wilson_bounds
from llm_platform.models.entries import LockEntry
from llm_platform.nim.dialects import METRICS_PATHS
from llm_platform.nim.http import EndpointClient
from llm_platform.nim.metrics import EndpointMetrics, parse
from llm_platform.nim.series import HISTOGRAMS, EndpointReading, Stretch, queue_grows, stretches, together
from llm_platform.nim_local.process import status
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.records.tables import ENDPOINT_METRICS_SCHEMA
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.lake import Warehouse

ANSWER_SECONDS = 10.0
"""An endpoint that takes longer to say that it is ready is not."""

SHOWN = timedelta(hours=24)
RECENT = timedelta(hours=1)

MAX_ERROR_RATE = 0.01
ERROR_RATE_REASON = "The client sends a failed request again; above one in a hundred that begins to cost time."
MINIMUM_REQUESTS = 20
QUEUE_LOOKS = 12
QUEUE_LOOKS_NEEDED = 6
QUEUE_ALPHA = 0.01
QUEUE_REASON = "A queue that grows from look to look over an hour is more than the endpoint can work off."

_JSON = frozenset({*HISTOGRAMS, "finished", "adapters_running", "adapters_waiting"})


@dataclass(frozen=True)
class Look:
    """One endpoint at one moment; `reason` says why it is not healthy, or why it says nothing."""

    entry: str
    base_url: str
    scraped_at: datetime
    healthy: bool
    reason: str
    latency_seconds: float
    metrics: EndpointMetrics


@dataclass(frozen=True)
class Place:
    """How the endpoints of this deployment are found and reached."""

    local: LocalNim
    connection: Connection
    cluster_namespace: str | None = None


@dataclass(frozen=True)
class Held:
    """One property of a model's endpoints, held against its limit; `told` is false when there is too little to tell."""

    passed: bool
    told: bool
    note: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Watched:
    """What one look at a model's endpoints found, with the last day before it.

    Attributes:
        resting: Whether nothing runs that could be looked at: an embedded NIM that starts on use.
    """

    at: datetime
    looks: tuple[Look, ...]
    series: tuple[Stretch, ...]
    resting: bool
    healthy: Held
    queue: Held
    errors: Held


def running_urls(entry: LockEntry, place: Place) -> tuple[str, ...]:
    """Roots of the endpoints there are now. Looking starts nothing: an embedded NIM that does not run has none.

    Raises:
        EndpointUnavailable: a name has no address.
    """
    if entry.mode != "embedded":
        return base_urls(entry, place.local, cluster_namespace=place.cluster_namespace)
    local = place.local
    running = status(local.config(entry, local.path(entry)), state=local.state)
    return () if running is None else (running.base_url,)


def look_at(entry: LockEntry, urls: Sequence[str], connection: Connection, *, now: datetime) -> tuple[Look, ...]:
    """One look at each endpoint. One that does not answer is a finding, and no error."""
    with EndpointClient(connection, timeout_seconds=ANSWER_SECONDS) as client:
        return tuple(_look(entry, url, client, now=now) for url in urls)


def watch(lake: Warehouse, entry: LockEntry, place: Place, *, now: datetime) -> Watched:
    """Look at the endpoints of a lock entry, store what they said, and hold the last hour against its limits."""
    try:
        looks = look_at(entry, running_urls(entry, place), place.connection, now=now)
    except EndpointUnavailable as error:  # the name has no address any more
        looks = (_silent(entry, entry.dns or entry.service_name, error, now=now),)
    if looks:
        lake.endpoint_metrics.append(looks_table(looks))
    readings = stored_readings(lake, entry.name, now - SHOWN)
    series = tuple(stretches(readings))
    recent = [part for part in series if part.end > now - RECENT]
    return Watched(
        at=now,
        looks=looks,
        series=series,
        resting=entry.mode == "embedded" and not looks,
        healthy=_healthy(looks, resting=entry.mode == "embedded"),
        queue=_queue([part.waiting for part in recent if part.waiting is not None]),
        errors=_errors(recent),
    )


def stored_readings(lake: Warehouse, entry: str, start: datetime) -> list[EndpointReading]:
    """What the endpoints of a lock entry said since `start`, oldest first."""
    return [
        EndpointReading(
            base_url=row["base_url"],
            scraped_at=row["scraped_at"],
            healthy=row["healthy"],
            metrics=_read({name: row[name] for name in EndpointMetrics.model_fields}),
        )
        for row in lake.endpoint_metrics.since(entry, start).to_pylist()
    ]


def looks_table(looks: Sequence[Look]) -> pa.Table:
    """Looks as rows of `endpoint_metrics`."""
    rows = []
    for look in looks:
        keys = {name: getattr(look, name) for name in ("entry", "base_url", "scraped_at", "healthy", "reason")}
        rows.append({**keys, "latency_seconds": look.latency_seconds, **_flat(look.metrics)})
    return pa.Table.from_pylist(rows, schema=ENDPOINT_METRICS_SCHEMA)


def _look(entry: LockEntry, url: str, client: EndpointClient, *, now: datetime) -> Look:
    root = url.rstrip("/")
    started = time.monotonic()
    try:
        ready, _ = client.get(f"{root}/v1/health/ready")
        if ready == 404:  # a bare engine has no NIM paths
            ready, _ = client.get(f"{root}/health")
        latency = time.monotonic() - started
        metrics = _metrics(root, entry, client)
    except EndpointUnavailable as error:
        return _silent(entry, root, error, now=now)
    # The status codes of a dead engine behind a green front are seen by probing for a token, which runs do.
    healthy = ready == 200 or (ready == 404 and not metrics.is_empty)
    reason = "" if healthy else f"/v1/health/ready answered HTTP {ready}"
    if healthy and metrics.is_empty:
        reason = "publishes no metrics that are known"
    return Look(entry.name, root, now, healthy, reason, latency, metrics)


def _metrics(root: str, entry: LockEntry, client: EndpointClient) -> EndpointMetrics:
    for path in METRICS_PATHS:
        answered, text = client.get(f"{root}{path}")
        if answered == 200 and not (found := parse(text, entry.dialect)).is_empty:
            return found
    return EndpointMetrics()


def _silent(entry: LockEntry, url: str, error: EndpointUnavailable, *, now: datetime) -> Look:
    return Look(entry.name, url, now, False, str(error), ANSWER_SECONDS, EndpointMetrics())


def _healthy(looks: Sequence[Look], *, resting: bool) -> Held:
    ill = [look for look in looks if not look.healthy]
    numbers = {"endpoints": float(len(looks)), "healthy": float(len(looks) - len(ill))}
    if not looks:
        note = "does not run now; it starts on use" if resting else "there is no endpoint to look at"
        return Held(passed=resting, told=not resting, note=note, numbers=numbers)
    note = "; ".join(f"{look.base_url}: {look.reason}" for look in ill) or "every endpoint is ready"
    return Held(passed=not ill, told=True, note=note, numbers=numbers)


def _queue(waiting: Sequence[float]) -> Held:
    recent = waiting[-QUEUE_LOOKS:]
    numbers = {"looks": float(len(recent)), "waiting": recent[-1] if recent else 0.0}
    if len(recent) < QUEUE_LOOKS_NEEDED:
        return Held(True, False, f"{len(recent)} looks in an hour; it takes {QUEUE_LOOKS_NEEDED} to tell", numbers)
    grows = queue_grows(recent, alpha=QUEUE_ALPHA)
    note = f"from {recent[0]:.0f} to {recent[-1]:.0f} waiting requests over {len(recent)} looks"
    return Held(not grows, True, note, numbers)


def _errors(recent: Sequence[Stretch]) -> Held:
    counted = [part for part in recent if "errors" in part.counters and "requests" in part.counters]
    if not counted:
        return Held(True, False, "the endpoints count no errors", {})
    hour = together(counted)
    errors, requests = hour.counters["errors"], hour.counters["requests"]
    # Some count a failed request among the finished ones, some beside them.
    total = max(requests, errors)
    numbers = {"errors": errors, "requests": total, "maximum": MAX_ERROR_RATE}
    if total < MINIMUM_REQUESTS:
        return Held(True, False, f"{total:.0f} requests in an hour; it takes {MINIMUM_REQUESTS} to tell", numbers)
    lower, _ = wilson_bounds(errors / total, total, confidence=0.95)
    note = f"{errors:.0f} of {total:.0f} requests failed in an hour"
    return Held(lower <= MAX_ERROR_RATE, True, note, {**numbers, "lower": lower})


def _flat(metrics: EndpointMetrics) -> dict[str, Any]:
    values = metrics.model_dump()
    for name in HISTOGRAMS:
        if values[name] is not None:
            # JSON has no infinity; the record reads the word.
            bounds = ["Infinity" if math.isinf(bound) else bound for bound in values[name]["bounds"]]
            values[name] = {**values[name], "bounds": bounds}
    return {name: json.dumps(value) if name in _JSON and value is not None else value for name, value in values.items()}


def _read(row: dict[str, Any]) -> EndpointMetrics:
    parsed = {name: json.loads(value) if name in _JSON and value else value for name, value in row.items()}
    return EndpointMetrics.model_validate({name: value for name, value in parsed.items() if value is not None})
