"""Counts and times of a run, in memory that does not grow with its rows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from llm_platform.inference.answers import ReadAnswer
from llm_platform.records import TokenUsage

# Buckets 5 % apart: a percentile read from them is off by at most that.
_GROWTH = math.log(1.05)
_SMALLEST_SECONDS = 1e-4


class LatencyHistogram:
    """Latencies in logarithmic buckets."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self._buckets[int(math.log(max(seconds, _SMALLEST_SECONDS)) / _GROWTH + 1000)] += 1
        self.count += 1

    def percentile(self, share: float) -> float | None:
        """The latency that this share of requests did not exceed; None before the first."""
        remaining = share * self.count
        for bucket in sorted(self._buckets):
            remaining -= self._buckets[bucket]
            if remaining <= 0:
                return math.exp((bucket + 0.5 - 1000) * _GROWTH)
        return None


class Occupancy:
    """How much of an endpoint was at work, from what it said now and then.

    What it can do at once is its slots, or, where nobody knows them, the most that was seen at work together.
    """

    def __init__(self, slots: int | None) -> None:
        self._slots = slots
        self._most = 0.0
        self._work = self._seconds = 0.0
        self._at: float | None = None

    def add(self, now: float, running: float) -> None:
        """Count `running` requests at work since the last look."""
        if self._at is not None:
            self._work += running * (now - self._at)
            self._seconds += now - self._at
        self._at = now
        self._most = max(self._most, running)

    @property
    def idle_share(self) -> float | None:
        """Share of that which had nothing to do, in [0, 1]; None where nothing is known."""
        capacity = self._seconds * (self._slots or self._most)
        return max(0.0, 1.0 - self._work / capacity) if capacity > 0 else None


@dataclass(frozen=True)
class EndpointProgress:
    """One endpoint while a run goes on.

    Attributes:
        waiting: Requests in its queue, whoever sent them; None where it does not say.
        idle_share: Share of it that had nothing to do so far, in [0, 1].
    """

    base_url: str
    in_flight: int
    limit: int
    available: bool
    waiting: float | None
    idle_share: float | None = None


@dataclass(frozen=True)
class Progress:
    """A run at one moment.

    Attributes:
        done: Rows that need nothing more: answered, refused, or out of attempts.
        total: Rows there are, where the caller knows.
        failed: Why rows have no valid answer → how many.
        retries: Why requests were sent again → how often.
        tokens_per_second: Prompt and completion tokens over the last seconds.
        seconds_left: From the rows finished over the last seconds; None while unknown.
        wasted_tokens: Paid for answers that were asked for again.
    """

    done: int
    total: int | None
    sent: int
    stored: int
    failed: dict[str, int]
    retries: dict[str, int]
    usage: TokenUsage
    tokens_per_second: float
    in_flight: int
    limit: int
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None
    seconds: float
    seconds_left: float | None
    latency_p99_seconds: float | None = None
    wasted_tokens: int = 0
    endpoints: tuple[EndpointProgress, ...] = ()

    @property
    def waiting(self) -> float | None:
        """Requests in the queues of the endpoints; None where none of them says."""
        said = [endpoint.waiting for endpoint in self.endpoints if endpoint.waiting is not None]
        return sum(said) if said else None

    @property
    def idle_share(self) -> float | None:
        """Mean over the endpoints that know."""
        known = [endpoint.idle_share for endpoint in self.endpoints if endpoint.idle_share is not None]
        return sum(known) / len(known) if known else None


@dataclass
class Meter:
    """What a run has done so far."""

    done: int = 0
    sent: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    wasted_tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    def count(self, reading: ReadAnswer, latency_seconds: float) -> None:
        """Add what one reply cost."""
        self.latency.add(latency_seconds)
        self.prompt_tokens += reading.prompt_tokens
        self.completion_tokens += reading.completion_tokens
        self.cached_tokens += reading.cached_tokens
        self.reasoning_tokens += reading.reasoning_tokens

    @property
    def usage(self) -> TokenUsage:
        """Tokens paid, wasted ones included."""
        return TokenUsage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )

    @property
    def failures(self) -> int:
        """Rows without a valid answer."""
        return self.failed.total()


class Rate:
    """A rate over the last seconds, from totals read now and then."""

    def __init__(self, *, window_seconds: float = 10.0) -> None:
        self._window_seconds = window_seconds
        self._points: list[tuple[float, float]] = []

    def update(self, now: float, total: float) -> float:
        """Add a reading; the rate since the oldest reading within the window."""
        self._points.append((now, total))
        while len(self._points) > 2 and now - self._points[0][0] > self._window_seconds:
            self._points.pop(0)
        first, last = self._points[0], self._points[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0
