"""Finding how many requests an endpoint can take, against simulated endpoints in simulated time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from llm_platform.inference.limits import Limit
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform_tests.inference.cases import QUICK, ask
from llm_platform_tests.servers.scripted import ScriptedServer

TARGET = EndpointTarget("http://e")
POLICY = EnginePolicy()
POLL_SECONDS = 0.25


@dataclass
class Queueing:
    """An endpoint that runs `slots` requests at once and lets all others wait, as vLLM does.

    Answers come back at the rate of the slots in use, after a latency that grows with the queue.
    """

    slots: int
    seconds: float = 0.2
    now: float = 100.0
    done: float = 0.0
    history: list[tuple[float, int]] = field(default_factory=list)

    def run(self, limit: Limit, seconds: float, *, gauges: bool, extra: Mapping[str, float] | None = None) -> float:
        """Share of the best possible throughput over this time."""
        until, before = self.now + seconds, self.done
        while self.now < until:
            in_flight = limit.value
            running = min(in_flight, self.slots)
            answered = running * POLL_SECONDS / self.seconds
            latency = self.seconds * max(1.0, in_flight / self.slots)
            for _ in range(int(answered)):
                limit.on_answer(latency, 100)
            self.now += POLL_SECONDS
            self.done += answered
            seen = {"running": running, "waiting": max(0.0, in_flight - self.slots), **(extra or {})}
            limit.poll(self.now, in_flight, seen if gauges else None)
            self.history.append((self.now - 100.0, limit.value))
        return (self.done - before) / (seconds * self.slots / self.seconds)


@pytest.mark.parametrize("slots", [8, 64, 256, 300, 1000])
def test_limit_follows_the_queue_of_the_endpoint(slots: int) -> None:
    """vLLM never refuses: the only sign of too much is that requests wait there."""
    endpoint, limit = Queueing(slots), Limit(TARGET, POLICY)

    share = endpoint.run(limit, 30, gauges=True)

    settled = [value for at, value in endpoint.history if at > 2.0]
    assert share >= 0.95
    assert max(settled) <= max(1.2 * slots, slots + 10)
    assert min(settled) >= slots


@pytest.mark.parametrize("slots", [8, 64, 256, 300, 1000])
def test_limit_is_found_without_gauges(slots: int) -> None:
    """A gateway may hide the metrics; tokens per second stop growing all the same."""
    endpoint, limit = Queueing(slots), Limit(TARGET, POLICY)

    share = endpoint.run(limit, 40, gauges=False)

    assert share >= 0.9
    assert limit.value <= 2 * slots + 32


def test_published_number_of_slots_is_taken_at_once() -> None:
    """A 1.x NIM publishes `num_request_max`: nothing needs to be searched for."""
    endpoint, limit = Queueing(200), Limit(TARGET, POLICY)

    endpoint.run(limit, POLL_SECONDS, gauges=True, extra={"max_running": 200.0})

    assert limit.value == 220


def test_growing_endpoint_is_followed() -> None:
    """A second replica behind the same address doubles the slots in the middle of a run."""
    endpoint, limit = Queueing(64), Limit(TARGET, POLICY)
    endpoint.run(limit, 5, gauges=True)
    endpoint.slots = 128

    endpoint.run(limit, 10, gauges=True)

    assert 128 <= limit.value <= 1.2 * 128


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param({"kv_cache_usage": 0.5}, {"kv_cache_usage": 0.99}, id="full-cache"),
        pytest.param({"preemptions": 1.0}, {"preemptions": 5.0}, id="preemptions"),
    ],
)
def test_overload_brings_the_limit_down(first: dict[str, float], then: dict[str, float]) -> None:
    """A preempted request is computed again: more in flight then means fewer answers."""
    endpoint, limit = Queueing(64), Limit(TARGET, POLICY)
    endpoint.run(limit, 5, gauges=True, extra=first)
    before = limit.value

    endpoint.run(limit, POLL_SECONDS, gauges=True, extra=then)

    assert limit.value <= 0.9 * before


def test_endpoint_that_is_not_kept_busy_says_nothing_about_the_limit() -> None:
    """At the end of a run few rows are left; the limit must not run away meanwhile."""
    limit = Limit(TARGET, POLICY)

    for step in range(100):
        limit.poll(100.0 + step, 3, {"running": 3.0, "waiting": 0.0})

    assert limit.value == POLICY.initial_limit


@pytest.mark.parametrize(
    ("target", "policy", "expected"),
    [
        pytest.param(replace(TARGET, slots=8), POLICY, 16, id="twice-the-known-slots"),
        pytest.param(replace(TARGET, slots=8), replace(POLICY, limit=3), 3, id="as-told"),
        pytest.param(TARGET, replace(POLICY, initial_limit=500, max_limit=64), 64, id="never-above-the-maximum"),
    ],
)
def test_known_limit_is_kept(target: EndpointTarget, policy: EnginePolicy, expected: int) -> None:
    """Who knows the slots, or shares an endpoint with others, says so, and it holds."""
    limit = Limit(target, policy)
    limit.poll(1.0, expected, {"running": 1.0, "waiting": 0.0})

    assert limit.value == expected


def test_burst_of_refusals_brings_the_limit_to_what_was_accepted() -> None:
    """Halving again and again would take many round trips, each with a storm of refused requests."""
    limit = Limit(TARGET, replace(POLICY, limit=512))
    limit.on_answer(0.2, 100)

    for refused in range(384):
        limit.on_refusal(100.0, 511 - refused)
    limit.poll(100.5, 128, None)
    held = limit.value
    for step in range(8):
        limit.poll(101.1 + step / 4, 128, None)

    assert held == 128
    assert 128 < limit.value <= 128 + 3 / 0.2


def test_after_an_outage_the_endpoint_is_not_met_with_everything_at_once() -> None:
    """A restarted server has cold caches and compiles its kernels."""
    endpoint, limit = Queueing(1000), Limit(TARGET, POLICY)
    endpoint.run(limit, 5, gauges=True)

    limit.on_recovery()

    assert limit.value == POLICY.initial_limit


def test_real_queue_is_read_and_followed() -> None:
    """The same through HTTP: the endpoint's metrics are asked for while documents are sent."""
    from llm_platform.nim.metrics import read_metrics

    policy = replace(QUICK, limit=None, initial_limit=4, poll_seconds=0.05)

    with ScriptedServer(slots=16, latency_seconds=0.02) as server:
        target = EndpointTarget(server.url, metrics_path="/metrics", read_metrics=read_metrics)
        outcome = ask(server, 1500, policy=policy, targets=[target])

    assert outcome.stored_once(1500)
    assert 16 <= outcome.progress[-1].limit <= 40
