"""Readings of one endpoint over time: counters become rates, histograms become percentiles, restarts are seen.

Two readings make a stretch. A counter that has fallen says that the endpoint was restarted; then all its counters count
from zero, also those that have meanwhile passed their old value.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from llm_platform.nim.metrics import EndpointMetrics, Histogram
from llm_platform.records import Record

COUNTERS = ("prompt_tokens", "generation_tokens", "requests", "failed", "preemptions")
HISTOGRAMS = ("time_to_first_token", "inter_token", "end_to_end", "queue_time")
ERROR_REASONS = frozenset({"error"})
"""Finish reasons that are the endpoint's fault; `abort` is a client that went away."""


class EndpointReading(Record):
    """What one endpoint said at one moment."""

    base_url: str
    scraped_at: datetime
    healthy: bool
    metrics: EndpointMetrics


class Stretch(Record):
    """What happened between two readings of one endpoint, or of several added up.

    Attributes:
        counters: Of `COUNTERS`, and `errors`: how much each grew; absent where an endpoint does not count it.
        finished: Finish reason → requests.
        histograms: Of `HISTOGRAMS`: the observations of this time only.
        running, waiting: At its end.
        healthy: Whether every endpoint was, at its end.
    """

    start: datetime
    end: datetime
    counters: dict[str, float]
    finished: dict[str, float]
    histograms: dict[str, Histogram]
    running: float | None
    waiting: float | None
    kv_cache_usage: float | None
    healthy: bool
    restarted: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()

    def rate(self, counter: str) -> float | None:
        """Growth of a counter a second; None where it is not counted."""
        found = self.counters.get(counter)
        return None if found is None or self.seconds <= 0 else found / self.seconds

    def quantile(self, histogram: str, share: float) -> float | None:
        """A percentile of what was observed in this time; None without observations."""
        found = self.histograms.get(histogram)
        return found.quantile(share) if found is not None else None


def stretches(readings: Sequence[EndpointReading]) -> list[Stretch]:
    """What happened between the readings of one model's endpoints, in order; endpoints of one time are added up.

    An endpoint that did not answer makes no stretch: the next one reaches back to its last answer.
    """
    by_endpoint: dict[str, list[EndpointReading]] = defaultdict(list)
    for reading in sorted(readings, key=lambda one: one.scraped_at):
        by_endpoint[reading.base_url].append(reading)
    by_end: dict[datetime, list[Stretch]] = defaultdict(list)
    for own in by_endpoint.values():
        answered = [reading for reading in own if not reading.metrics.is_empty]
        for earlier, now in itertools.pairwise(answered):
            by_end[now.scraped_at].append(between(earlier, now))
    return [together(by_end[end], end=True) for end in sorted(by_end)]


def between(earlier: EndpointReading, now: EndpointReading) -> Stretch:
    """What happened between two readings of one endpoint."""
    then, metrics = earlier.metrics, now.metrics
    restarted = has_restarted(then, metrics)
    base = EndpointMetrics() if restarted else then
    counters = _grown({name: getattr(metrics, name) for name in COUNTERS}, base)
    finished = {reason: max(0.0, count - base.finished.get(reason, 0.0)) for reason, count in metrics.finished.items()}
    errors = [counters[name] for name in ("failed",) if name in counters]
    errors += [count for reason, count in finished.items() if reason in ERROR_REASONS]
    if errors or metrics.requests is not None:
        counters["errors"] = math.fsum(errors)
    return Stretch(
        start=earlier.scraped_at,
        end=now.scraped_at,
        counters=counters,
        finished=finished,
        histograms={
            name: found.since(getattr(base, name))
            for name in HISTOGRAMS
            if (found := getattr(metrics, name)) is not None
        },
        running=metrics.running,
        waiting=metrics.waiting,
        kv_cache_usage=metrics.kv_cache_usage,
        healthy=now.healthy,
        restarted=restarted,
    )


def has_restarted(earlier: EndpointMetrics, now: EndpointMetrics) -> bool:
    """Whether any counter or histogram has fallen."""
    pairs = [(getattr(earlier, name), getattr(now, name)) for name in COUNTERS]
    histograms = [(getattr(earlier, name), getattr(now, name)) for name in HISTOGRAMS]
    pairs += [(one.count, other.count) for one, other in histograms if one is not None and other is not None]
    pairs += [(count, now.finished.get(reason, 0.0)) for reason, count in earlier.finished.items()]
    return any(then is not None and this is not None and this < then for then, this in pairs)


def together(parts: Sequence[Stretch], *, end: bool = False) -> Stretch:
    """Several stretches as one: of several endpoints at one time (`end`), or of one time after another.

    Counters and observations are added up. What is running and waiting is added up over endpoints, and taken from the
    last of several times.
    """
    last = max(part.end for part in parts)
    at_end = parts if end else [part for part in parts if part.end == last]
    return Stretch(
        start=min(part.start for part in parts),
        end=last,
        counters=_summed([part.counters for part in parts]),
        finished=_summed([part.finished for part in parts]),
        histograms={
            name: merged([part.histograms[name] for part in parts if name in part.histograms])
            for name in HISTOGRAMS
            if any(name in part.histograms for part in parts)
        },
        running=_added([part.running for part in at_end]),
        waiting=_added([part.waiting for part in at_end]),
        kv_cache_usage=max((part.kv_cache_usage for part in at_end if part.kv_cache_usage is not None), default=None),
        healthy=all(part.healthy for part in at_end),
        restarted=any(part.restarted for part in parts),
    )


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """Observations of several histograms in one; where their bounds differ, at the bounds that all have."""
    bounds = tuple(sorted(set.intersection(*(set(one.bounds) for one in histograms))))
    counts = [
        math.fsum(one.counts[one.bounds.index(bound)] for one in histograms) for bound in bounds
    ]  # counts are cumulative, so a bound that is left out loses nothing
    return Histogram(bounds=bounds, counts=tuple(counts), sum=math.fsum(one.sum for one in histograms))


def queue_grows(waiting: Sequence[float], *, alpha: float) -> bool:
    """Whether the queue has been growing over these readings, and is not empty now.

    Kendall's tau against time, one-sided: any steady growth, not only a straight line.

    Source: Mann 1945; Kendall 1975.
    """
    from scipy.stats import kendalltau

    if len(set(waiting)) < 2 or waiting[-1] <= 0:
        return False
    test = kendalltau(range(len(waiting)), waiting, alternative="greater")
    return bool(test.pvalue < alpha)


def _grown(counters: Mapping[str, float | None], base: EndpointMetrics) -> dict[str, float]:
    grown: dict[str, float] = {}
    for name, now in counters.items():
        then = getattr(base, name)
        if now is not None:
            grown[name] = max(0.0, now - (then or 0.0))
    return grown


def _summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for part in parts for name in part}
    return {name: math.fsum(part.get(name, 0.0) for part in parts) for name in sorted(names)}


def _added(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
