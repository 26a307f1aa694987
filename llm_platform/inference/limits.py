"""How many requests one endpoint gets at once.

A self-hosted NIM never refuses: it queues, and only latency grows. So the limit comes from its own queue where it
publishes one, from the rate of tokens where it does not, and from 429 where something in front of it refuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from llm_platform.inference.climb import Climb
from llm_platform.inference.policy import EndpointTarget, EnginePolicy

# Enough waiting that a slot never idles for a round trip, few enough that latency stays near its minimum.
_WAITING_SHARE = 0.1
_WAITING_MINIMUM = 8.0
_FULL_CACHE = 0.95
# An endpoint counts as saturated by us when this much of the limit is in use; otherwise the limit says nothing.
_SATURATED = 0.9
# In the background: how fast to make room, how fast to take what is free, and what latency betrays a queue.
_YIELD, _ADVANCE, _CROWDED = 0.5, 1.1, 1.5


class Limit:
    """The limit of one endpoint. Call `poll` a few times a second, and the `on_…` methods as things happen."""

    def __init__(self, target: EndpointTarget, policy: EnginePolicy) -> None:
        known = policy.limit or (math.ceil(target.slots * policy.slots_factor) if target.slots else None)
        self.fixed = known is not None and not policy.background
        self._background = policy.background
        self._ceiling = float(known or policy.max_limit)
        self._initial = min(self._ceiling, float(policy.initial_limit if known is None or policy.background else known))
        self._limit = self._initial
        self._ramping = True
        self._preemptions = 0.0
        self._climb = Climb(self._initial)
        self._latency_seconds = 0.0
        self._least_latency = math.inf
        self._refused_at: float | None = None
        self._grown_at = 0.0
        self._has_queue = False
        self._climbing = not self.fixed and not policy.background and target.metrics_path is None

    @property
    def is_searching(self) -> bool:
        """Whether the queue has not been found yet: worth looking at more often."""
        return self._ramping and not self.fixed

    @property
    def value(self) -> int:
        """Requests that may be in flight now, at least one."""
        return max(1, int(self._limit))

    def on_answer(self, now: float, *, latency_seconds: float, in_flight: int) -> None:
        """A row was answered; `in_flight` are out still."""
        previous = self._latency_seconds
        self._latency_seconds = latency_seconds if not previous else 0.9 * previous + 0.1 * latency_seconds
        # Of the smoothed latency: that of one short document would make all others look crowded.
        self._least_latency = min(self._least_latency, self._latency_seconds)
        if self._climbing:
            self._climb.limit = self._limit
            self._climb.add(now, latency_seconds=latency_seconds, in_flight=in_flight)
            self._limit = min(max(self._climb.limit, 1.0), self._ceiling)

    def on_refusal(self, now: float, in_flight: int) -> None:
        """The endpoint answered 429. What is in flight without this request is what it can take.

        So a burst of refusals brings the limit down to what was accepted, in one round trip, and a refused request's
        place is not given to the next one to be refused.
        """
        self._refused_at = self._grown_at = now
        self._ramping = False
        self._limit = max(1.0, min(self._limit, float(in_flight)))

    def on_rested(self, now: float) -> None:
        """The endpoint has refused everything, and was left alone for a while: that time says nothing."""
        self._grown_at = now

    def on_recovery(self) -> None:
        """The endpoint is back after an outage: do not meet it with everything at once."""
        self._limit = min(self._limit, self._initial)
        self._ramping = True
        self._climb = Climb(self._limit)

    def poll(self, now: float, in_flight: int, gauges: Mapping[str, float] | None) -> None:
        """Move the limit, from the server's queue if it says, else from what came back."""
        if self._background and self._is_crowded(gauges or {}):
            self._limit *= _YIELD
            self._ramping = False
        elif self._refused_at is not None:
            self._grow_after_refusal(now)
        elif self.fixed:
            self._limit = min(self._ceiling, max(self._limit, self._initial))
        elif self._background:
            self._advance(in_flight)
        elif gauges is not None and "running" in gauges and "waiting" in gauges:
            self._follow_queue(in_flight, gauges)
            self._has_queue = True
        self._climbing = not (self.fixed or self._background or self._has_queue or self._refused_at is not None)
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

    def _is_crowded(self, gauges: Mapping[str, float]) -> bool:
        """Whether somebody waits, whoever it is."""
        if "waiting" in gauges:
            return gauges["waiting"] > 0
        # A latency above the least one says that somebody is in the way of somebody.
        return self._latency_seconds > _CROWDED * self._least_latency

    def _advance(self, in_flight: int) -> None:
        """Take some more of what nobody uses."""
        if in_flight >= _SATURATED * self._limit:
            self._limit = max(self._limit + 1.0, self._limit * (2.0 if self._ramping else _ADVANCE))
