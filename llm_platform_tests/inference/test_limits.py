"""Finding how many requests an endpoint can take, against simulated endpoints in simulated time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from llm_platform.inference.limits import Limit
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform_tests.inference.cases import QUICK, ask
from llm_platform_tests.servers.scripted import ScriptedServer

TARGET = EndpointTarget("http://e")
POLICY = EnginePolicy()
POLL_SECONDS = 0.25


STEP_SECONDS = 0.01


@dataclass
class Queueing:
    """An endpoint that works on `slots` requests at once and lets all others wait, as vLLM does.

    Attributes:
        seconds: What a request takes by itself.
        batching: How much longer it takes beside others: 0 for nothing, 1 for a GPU that is full with the first.
        others: Requests of somebody else that are always there, first in the queue.
    """

    slots: int
    seconds: float = 0.2
    batching: float = 0.0
    others: int = 0
    now: float = 100.0
    done: float = 0.0
    history: list[tuple[float, int]] = field(default_factory=list)
    _flying: list[list[float]] = field(default_factory=list)
    _polled: float = 0.0

    def per_second(self, running: int) -> float:
        """Requests a second with so many running."""
        return running / (self.seconds * (1 - self.batching + self.batching * running))

    def run(self, limit: Limit, seconds: float, *, gauges: bool, extra: Mapping[str, float] | None = None) -> float:
        """Share of the best possible throughput over this time."""
        until, before = self.now + seconds, self.done
        while self.now < until:
            self._step(limit)
            if self.now - self._polled >= POLL_SECONDS * (0.4 if gauges and limit.is_searching else 1.0):
                self._polled = self.now
                waiting = max(0.0, len(self._flying) + self.others - self.slots)
                running = min(len(self._flying) + self.others, self.slots)
                seen = {"running": float(running), "waiting": waiting, **(extra or {})}
                limit.poll(self.now, len(self._flying), seen if gauges else None)
                self.history.append((self.now - 100.0, limit.value))
        return (self.done - before) / (seconds * self.per_second(self.slots))

    def _step(self, limit: Limit) -> None:
        self.now += STEP_SECONDS
        running = min(len(self._flying), max(0, self.slots - self.others))
        speed = self.per_second(running + self.others) / max(1, running + self.others) * STEP_SECONDS
        for request in self._flying[:running]:
            request[1] += speed
        finished = [request for request in self._flying if request[1] >= 1.0 - 1e-9]
        self._flying = [request for request in self._flying if request[1] < 1.0 - 1e-9]
        for number, (sent_at, _) in enumerate(finished, 1):
            self.done += 1
            out = len(self._flying) + len(finished) - number
            limit.on_answer(self.now, latency_seconds=self.now - sent_at, in_flight=out)
            if out < limit.value:
                self._flying.append([self.now, 0.0])
        self._flying += [[self.now, 0.0] for _ in range(limit.value - len(self._flying))]


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

    share = endpoint.run(limit, 16, gauges=False)

    assert share >= 0.9
    settled = statistics.median(value for at, value in endpoint.history if at > 4.0)
    assert settled <= 2 * slots + 32


def test_limit_found_without_gauges_stays_above_the_knee() -> None:
    """Now and then it is tried whether less would do; what costs throughput is taken back."""
    endpoint, limit = Queueing(256), Limit(TARGET, POLICY)
    endpoint.run(limit, 10, gauges=False)

    share = endpoint.run(limit, 60, gauges=False)

    assert share >= 0.97
    assert 200 <= limit.value <= 640


def test_gpu_that_gains_little_from_batching_is_still_filled() -> None:
    """Latency that grows with every request is no queue: an 8B model on an H100 gains a quarter from 32 to 512."""
    endpoint, limit = Queueing(256, batching=0.1), Limit(TARGET, POLICY)

    share = endpoint.run(limit, 60, gauges=False)

    assert share >= 0.9


@pytest.mark.parametrize("gauges", [True, False])
def test_background_run_takes_what_is_free(gauges: bool) -> None:
    """A GPU that nobody else uses is not left idle out of politeness."""
    endpoint, limit = Queueing(64), Limit(TARGET, replace(POLICY, background=True))

    endpoint.run(limit, 10, gauges=gauges)

    assert endpoint.run(limit, 20, gauges=gauges) >= 0.7


def test_background_run_makes_room_for_others_and_comes_back() -> None:
    """Production shares the endpoint with an experiment, and must not notice it."""
    endpoint, limit = Queueing(64), Limit(TARGET, replace(POLICY, background=True))
    endpoint.run(limit, 10, gauges=True)

    endpoint.others = 70
    endpoint.run(limit, 3, gauges=True)
    yielded = limit.value
    endpoint.others = 0
    endpoint.run(limit, 10, gauges=True)

    assert yielded == 1
    assert limit.value >= 32


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
    limit.on_answer(99.0, latency_seconds=0.2, in_flight=511)

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


def test_background_run_that_was_refused_makes_room_all_the_same() -> None:
    """What grows again after a 429 must not grow into the place of somebody who waits."""
    limit = Limit(TARGET, replace(POLICY, background=True))
    limit.on_answer(100.0, latency_seconds=0.2, in_flight=20)
    limit.on_refusal(100.1, 20)

    for step in range(20):
        limit.poll(102.0 + step, 20, {"running": 64.0, "waiting": 5.0})

    assert limit.value == 1


def test_background_run_is_not_stopped_by_one_short_document() -> None:
    """Latencies differ with the documents; only that all of them grow says that the endpoint is shared."""
    limit = Limit(TARGET, replace(POLICY, background=True))

    for step in range(200):
        limit.on_answer(100.0 + step / 10, latency_seconds=0.01 if step == 100 else 0.2, in_flight=limit.value - 1)
        limit.poll(100.0 + step / 10, limit.value, None)

    assert limit.value > POLICY.initial_limit


def test_real_run_in_the_background_leaves_an_endpoint_to_the_other() -> None:
    """Two deployments, one endpoint, no word between them but the endpoint's own queue."""
    from llm_platform.nim.metrics import read_metrics

    quick = replace(QUICK, limit=None, initial_limit=8, poll_seconds=0.05)
    with ScriptedServer(slots=16, latency_seconds=0.05) as server, ThreadPoolExecutor(1) as other:
        target = EndpointTarget(server.url, metrics_path="/metrics", read_metrics=read_metrics)
        behind = other.submit(ask, server, 1200, policy=replace(quick, background=True), targets=[target])
        while (before := server.counts.answered.total()) < 150:
            time.sleep(0.01)
        front = ask(server, 900, policy=quick, targets=[target])
        during = server.counts.answered.total() - before - 900
        outcome = behind.result(timeout=60)

    assert front.stored_once(900)
    assert outcome.stored_once(1200)
    assert during < 0.25 * 900


def test_real_queue_is_read_and_followed() -> None:
    """The same through HTTP: the endpoint's metrics are asked for while documents are sent."""
    from llm_platform.nim.metrics import read_metrics

    policy = replace(QUICK, limit=None, initial_limit=4, poll_seconds=0.05)

    with ScriptedServer(slots=16, latency_seconds=0.02) as server:
        target = EndpointTarget(server.url, metrics_path="/metrics", read_metrics=read_metrics)
        outcome = ask(server, 1500, policy=policy, targets=[target])

    assert outcome.stored_once(1500)
    assert 16 <= outcome.progress[-1].limit <= 40
