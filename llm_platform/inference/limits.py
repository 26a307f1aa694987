"""How many requests one endpoint gets at once.

A self-hosted NIM never refuses: it queues, and only latency grows. So the limit comes from its own queue where it
publishes one, from the rate of tokens where it does not, and from 429 where something in front of it refuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from llm_platform.inference.policy import EndpointTarget, EnginePolicy

# Enough waiting that a slot never idles for a round trip, few enough that latency stays near its minimum.
_WAITING_SHARE = 0.1
_WAITING_MINIMUM = 8.0
_FULL_CACHE = 0.95
# An endpoint counts as saturated by us when this much of the limit is in use; otherwise the limit says nothing.
_SATURATED = 0.9


class Limit:
    """The limit of one endpoint. Call `poll` a few times a second, and the `on_…` methods as things happen."""

    def __init__(self, target: EndpointTarget, policy: EnginePolicy) -> None:
        known = policy.limit or (math.ceil(target.slots * policy.slots_factor) if target.slots else None)
        self.fixed = known is not None
        self._ceiling = float(known or policy.max_limit)
        self._initial = float(known or min(policy.initial_limit, policy.max_limit))
        self._limit = self._initial
        self._ramping = True
        self._preemptions = 0.0
        self._climb = _Climb()
        self._latency_seconds = 0.0
        self._refused_at: float | None = None
        self._grown_at = 0.0

    @property
    def value(self) -> int:
        """Requests that may be in flight now, at least one."""
        return max(1, int(self._limit))

    def on_answer(self, latency_seconds: float, tokens: int) -> None:
        """A row was answered."""
        previous = self._latency_seconds
        self._latency_seconds = latency_seconds if not previous else 0.9 * previous + 0.1 * latency_seconds
        self._climb.add(latency_seconds, tokens)

    def on_refusal(self, now: float, in_flight: int) -> None:
        """The endpoint answered 429. What is in flight without this request is what it can take.

        So a burst of refusals brings the limit down to what was accepted, in one round trip, and a refused request's
        place is not given to the next one to be refused.
        """
        self._refused_at = self._grown_at = now
        self._ramping = False
        self._limit = max(1.0, min(self._limit, float(in_flight)))

    def on_recovery(self) -> None:
        """The endpoint is back after an outage: do not meet it with everything at once."""
        self._limit = min(self._limit, self._initial)
        self._ramping = True
        self._climb = _Climb()

    def poll(self, now: float, in_flight: int, gauges: Mapping[str, float] | None) -> None:
        """Move the limit, from the server's queue if it says, else from what came back."""
        if self._refused_at is not None:
            self._grow_after_refusal(now)
        elif self.fixed:
            self._limit = min(self._ceiling, max(self._limit, self._initial))
        elif gauges is not None and "running" in gauges and "waiting" in gauges:
            self._follow_queue(in_flight, gauges)
        else:
            self._follow_rate(now, in_flight)
        self._limit = min(max(self._limit, 1.0), self._ceiling)

    def _grow_after_refusal(self, now: float) -> None:
        """One more per round trip, once nothing was refused for a second."""
        refused_at = self._refused_at or 0.0
        round_seconds = min(max(self._latency_seconds, 0.05), 1.0)
        if now - refused_at > 1.0 and now - self._grown_at >= round_seconds:
            self._limit += int((now - self._grown_at) / round_seconds)
            self._grown_at = now

    def _follow_queue(self, in_flight: int, gauges: Mapping[str, float]) -> None:
        running, waiting = gauges["running"], gauges["waiting"]
        preemptions = gauges.get("preemptions", 0.0)
        preempted, self._preemptions = preemptions > self._preemptions > 0.0, preemptions
        if preempted or (gauges.get("kv_cache_usage", 0.0) > _FULL_CACHE and waiting > 0):
            # A preempted sequence is computed again from its start: throughput falls while latency grows.
            self._limit *= 0.9
            self._ramping = False
            return
        target = max(_WAITING_MINIMUM, _WAITING_SHARE * running)
        if self._ramping and "max_running" in gauges:
            self._limit = gauges["max_running"] + max(_WAITING_MINIMUM, _WAITING_SHARE * gauges["max_running"])
            self._ramping = False
        elif self._ramping and waiting > 0:
            self._limit = running + target
            self._ramping = False
        elif self._ramping:
            self._limit *= 2.0 if in_flight >= _SATURATED * self._limit else 1.0
        elif self._limit * _SATURATED <= in_flight <= self._limit * 1.02:
            # Only once the last change has taken effect: right after a cut, the queue is still the old one.
            step = 0.25 * self._limit
            self._limit += min(max(target - waiting, -step), step)

    def _follow_rate(self, now: float, in_flight: int) -> None:
        if in_flight < _SATURATED * self._limit:
            self._climb.restart(now, self._latency_seconds)
            return
        self._limit = self._climb.next(now, self._limit)


class _Climb:
    """Climbs while the token rate follows the limit; steps back to the knee when it stops following."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._previous = 0.0
        self._factor = 2.0
        self._pause = 0
        self._from = self._until = 0.0
        self._tokens = self._count = 0
        self._latency = 0.0
        self._base_latency = math.inf

    def add(self, latency_seconds: float, tokens: int) -> None:
        """Count an answer of this window."""
        self._tokens += tokens or 1
        self._count += 1
        self._latency += latency_seconds

    def restart(self, now: float, latency_seconds: float) -> None:
        """Begin a window after what was sent before has come back."""
        self._from = now + latency_seconds
        # Short windows while doubling, where differences are large; long ones to tell 15 % from noise.
        window = max(0.2, latency_seconds) if self._factor == 2.0 else max(0.5, 2.0 * latency_seconds)
        self._until = self._from + window
        self._tokens = self._count = 0
        self._latency = 0.0
        self._opened = False

    _opened = False

    def next(self, now: float, limit: float) -> float:
        """The limit for the next window; unchanged while this one lasts."""
        if self._until == 0.0:
            self.restart(now, 0.0)
        if not self._opened and now >= self._from:
            self._tokens = self._count = 0
            self._latency = 0.0
            self._from, self._opened = now, True
        if now < self._until or not self._opened or not self._count:
            return limit
        rate = self._tokens / (now - self._from)
        latency = self._latency / self._count
        result = self._decide(rate, latency, limit)
        self.restart(now, latency)
        return result

    def _decide(self, rate: float, latency: float, limit: float) -> float:
        if self._pause > 0:
            self._pause -= 1
            self._rate = 0.7 * self._rate + 0.3 * rate
            if self._pause == 0:
                self._previous, self._factor = limit, 1.15
                return limit * self._factor
            return limit
        worthwhile = 1.0 + (0.3 if self._factor == 2.0 else 0.5) * (self._factor - 1.0)
        if rate >= self._rate * worthwhile:
            self._rate, self._previous = rate, limit
            self._base_latency = min(self._base_latency, latency)
            return limit * self._factor
        # Little's law: what the endpoint works on at once is its rate times the latency of an unqueued request.
        rows_per_second = limit / latency
        knee = max(self._previous, min(limit, rows_per_second * self._base_latency))
        self._rate, self._pause = max(rate, self._rate), 8
        return min(limit, knee * 1.1)
