"""The limit of an endpoint that publishes no queue, found from how fast its answers come back.

By Little's law, answers per second are requests in flight over the latency of one. That holds however bunched answers
come, where counting them for a second or two is off by a whole bunch.

It starts as TCP does: one more in flight for each answer, which doubles the limit every round trip, until a doubling
hardly brings more answers a second. A limit that is too high costs latency, one that is too low costs throughput, so it
settles above the knee; from then on it is tried, now and then, whether more would bring more, or less as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# A doubling has to bring this much, or the endpoint is full; a trial later, by half, this much.
_WORTHWHILE, _GAIN = 1.1, 1.03
# What a trial of less may cost.
_LOSS = 0.985
_MORE, _LESS = 1.5, 0.75
# Within a round the limit stops growing once latency has grown by so much: that is a queue.
_QUEUEING = 1.25
_HEADROOM = 1.5
_WINDOW_SECONDS, _WINDOW_ROUNDS = 1.0, 2
_PAUSE_WINDOWS, _LONGEST_PAUSE = 4, 32


@dataclass
class _Latencies:
    """Those of the answers since a round began."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.squares += seconds * seconds

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def relative_error(self) -> float:
        """Standard error of the mean, over the mean."""
        variance = max(0.0, self.squares / self.count - self.mean**2)
        return math.sqrt(variance / self.count) / self.mean


@dataclass(frozen=True)
class _Measured:
    """Answers per second at one limit, and how sure that is."""

    rate: float
    relative_error: float


class Climb:
    """Call `add` for each answer; `limit` moves."""

    def __init__(self, initial: float) -> None:
        self.limit = initial
        self._starting = True
        self._level = initial
        self._best_rate = self._knee = 0.0
        self._least_latency = self._round_latency = math.inf
        self._began: float | None = None
        self._size = initial
        self._skip = 0
        self._seen = _Latencies()
        self._base: list[_Measured] = []
        self._before: float | None = None
        self._pause, self._windows, self._trials = _PAUSE_WINDOWS, 0, 0

    def add(self, now: float, *, latency_seconds: float, in_flight: int) -> None:
        """Take in one answer.

        Args:
            in_flight: How many requests are out, this one not counted any more.
        """
        if self._began is not None and in_flight + 1 < 0.9 * self._size:
            # What is not used says nothing; the next round begins when it is.
            self._began = None
        began = self._begin(now) if self._began is None else self._began
        if self._skip > 0 and not self._starting:
            # Sent before the limit was what it is.
            self._skip -= 1
            self._began = now
            return
        self._seen.add(latency_seconds)
        if self._starting:
            queueing = latency_seconds > _QUEUEING * self._round_latency
            self.limit += 0.0 if queueing or self.limit >= 2.0 * self._size else 1.0
            if self._seen.count >= self._size:
                self._end_round()
                self._begin(now)
        elif self._seen.count >= _WINDOW_ROUNDS * self._size and now - began >= _WINDOW_SECONDS:
            self._end_window()
            self._begin(now)

    def _begin(self, now: float) -> float:
        if self._size != self.limit:
            self._skip = math.ceil(max(self._size, self.limit))
        self._began, self._size = now, self.limit
        self._seen = _Latencies()
        return now

    def _end_round(self) -> None:
        latency = self._seen.mean
        # These answers were asked for while the limit went from that of the round before to this one's.
        rate = 0.5 * (self._level + self._size) / latency
        self._level, self._round_latency = self._size, latency
        self._least_latency = min(self._least_latency, latency)
        self._knee = max(self._knee, min(self._size, rate * self._least_latency))
        if rate < _WORTHWHILE * self._best_rate:
            self._starting = False
            self.limit = max(1.0, _HEADROOM * self._knee)
        self._best_rate = max(self._best_rate, rate)

    def _end_window(self) -> None:
        measured = _Measured(self._size / self._seen.mean, self._seen.relative_error)
        if self._before is not None:
            self._judge(measured, self._before)
            return
        self._base = [*self._base[-1:], measured]
        self._windows += 1
        if self._windows >= self._pause:
            self._trials += 1
            self._before = self.limit
            self.limit = max(1.0, self.limit * (_LESS if self._trials % 3 == 0 else _MORE))

    def _judge(self, measured: _Measured, before: float) -> None:
        base = max(self._base, key=lambda one: one.rate)
        error = 2.0 * math.hypot(measured.relative_error, base.relative_error)
        wanted = max(_GAIN, 1.0 + error) if self.limit > before else _LOSS
        kept = measured.rate >= wanted * base.rate
        self._pause = _PAUSE_WINDOWS if kept else min(2 * self._pause, _LONGEST_PAUSE)
        if not kept:
            self.limit = before
        self._before, self._windows, self._base = None, 0, []
