"""Scale to zero: models that we brought up in a cluster and that nobody asks any more are taken down.

What was asked stands in `endpoint_metrics`, which endpoints count themselves: requests of other clients count, too.
Where the looks do not cover the whole time, or an endpoint was started anew in it, nothing is taken down.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from llm_platform.errors import PlatformError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.lifecycle import WORKLOADS, look
from llm_platform.nim.series import EndpointReading, between
from llm_platform.operations.serving.bringing_up import connected, take_model_down
from llm_platform.operations.serving.monitoring import stored_readings
from llm_platform.operations.serving.pods import objects_of
from llm_platform.operations.serving.serving import Serving
from llm_platform.warehouse.lake import Warehouse

LOOKS_APART = timedelta(minutes=15)
"""Endpoints are looked at every five minutes; two missed looks are nothing, more are a gap."""

WORK = ("requests", "prompt_tokens", "generation_tokens")
"""Counters that grow with every request; an endpoint has at least one of them."""


@dataclass(frozen=True)
class Idle:
    """What became of one model; `note` says why."""

    entry: str
    taken_down: bool
    note: str


def take_idle_down(
    lake: Warehouse,
    entries: Iterable[LockEntry],
    serving: Serving,
    *,
    now: datetime,
    report: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Idle]:
    """Take down those models of a cluster that are ours and have not been asked for as long as the deployment says."""
    if serving.idle_down_minutes is None:
        return
    limit = timedelta(minutes=serving.idle_down_minutes)
    for entry in entries:
        if entry.mode != "kubernetes":
            continue
        reason = why_not_idle(stored_readings(lake, entry.name, now - limit - LOOKS_APART), now=now, limit=limit)
        if reason is not None:
            yield Idle(entry.name, False, reason)
            continue
        try:
            yield _take_down(entry, serving, report=report, sleep=sleep)
        except PlatformError as error:  # one cluster that does not answer must not keep the others up
            yield Idle(entry.name, False, str(error))


def why_not_idle(readings: Sequence[EndpointReading], *, now: datetime, limit: timedelta) -> str | None:
    """Why a model is not known to have been idle for that long, in words; None when it is."""
    by_endpoint: dict[str, list[EndpointReading]] = defaultdict(list)
    for reading in sorted(readings, key=lambda one: one.scraped_at):
        if not reading.metrics.is_empty:
            by_endpoint[reading.base_url].append(reading)
    if not by_endpoint:
        return "its endpoints have said nothing in that time"
    for url, own in by_endpoint.items():
        times = [reading.scraped_at for reading in own]
        if times[0] > now - limit or now - times[-1] > LOOKS_APART:
            return f"{url} has not been looked at for that long"
        if any(later - earlier > LOOKS_APART for earlier, later in itertools.pairwise(times)):
            return f"{url} has not been looked at all the time"
        whole = between(own[0], own[-1])
        grown = {name: whole.counters[name] for name in WORK if name in whole.counters}
        if whole.restarted or not grown:
            return f"{url} was started anew, or counts no requests"
        if any(grown.values()) or whole.running or whole.waiting:
            return f"{url} was asked in that time"
    return None


def _take_down(
    entry: LockEntry, serving: Serving, *, report: Callable[[str], None], sleep: Callable[[float], None]
) -> Idle:
    with connected(serving) as cluster:
        found = look(cluster, objects_of(entry, serving))
    if found.state is None:
        return Idle(entry.name, False, "it is down already")
    if others := [ref for ref, _ in found.foreign if ref.kind in WORKLOADS]:
        return Idle(entry.name, False, f"{others[0]} was made by somebody else")
    said = take_model_down(entry, serving, report=report, sleep=sleep)
    return Idle(entry.name, True, f"nobody has asked it for {serving.idle_down_minutes:g} minutes. {said}")
