"""One endpoint during a run: how much it gets, and whether it is believed to be alive.

A failure is charged to the row that met it. When failures follow each other, or nothing is heard for long, the endpoint
is asked for one token: if it answers, the charges stand; if it does not, this is an outage, the charges are taken back,
and nothing but such probes is sent until one succeeds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from llm_platform.inference.answers import ReadAnswer
from llm_platform.inference.bodies import NoCompletion, unpacked
from llm_platform.inference.limits import Limit
from llm_platform.inference.meter import EndpointProgress, Occupancy
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.reasons import RefusedRequest
from llm_platform.inference.requests import PreparedRequest, ProbeRequest
from llm_platform.inference.wire import Reply, Wire

# An endpoint whose model is silent while its server answers is given so many times as long: it may be slow.
_SLOW = 4.0
_MODELS_PATH = "/v1/models"
_SERVER_SECONDS = 5.0
# The request is refused for what it is, and the endpoint is there to say so.
_ALIVE = frozenset({400, 413, 422})


@dataclass(slots=True, eq=False)
class RowInFlight:
    """One document between its first request and its answer.

    Attributes:
        sent: Requests made for it.
        charged: Failures that were its own fault, as far as can be told.
        throttled: Requests for it that were sent too early (429).
        failing_since: When the first request that failed was sent; 0 before.
        failed_at, cause, endpoint, said: When, how and where its last request failed, and with what body.
        invalid: The answer that is asked for once more.
    """

    request: PreparedRequest
    sent: int = 0
    charged: int = 0
    throttled: int = 0
    failing_since: float = 0.0
    failed_at: float = 0.0
    cause: str = ""
    said: bytes = b""
    endpoint: EndpointState | None = None
    invalid: ReadAnswer | None = None


@dataclass(slots=True, eq=False)
class RefusedRow:
    """A row that an endpoint refused, while it is not known whether it would refuse any."""

    row: RowInFlight
    status: int
    refused: RefusedRequest
    latency_seconds: float
    at: float


class Breaker(Enum):
    """What is believed about an endpoint."""

    CLOSED = auto()
    SUSPECT = auto()
    OPEN = auto()
    RESTING = auto()
    """It refuses whatever comes (429): it is left alone for a while."""


class EndpointState:
    """Limit, breaker and counters of one endpoint.

    Attributes:
        url: Its root, to which paths are appended.
        answered_at: When a reply last proved its engine alive.
        quiet_since: When it last had nothing to answer.
        reachable_at: When its server last answered anything, while its model was silent.
        throttled: Times in a row that it was rested, because it refused whatever came.
        refused: Rows that it refused, until it is known whose fault that is; `doubts` counts how often it was asked.
        leaving: Whether it is no longer listed; what is in flight there is still waited for.
    """

    def __init__(self, target: EndpointTarget, policy: EnginePolicy) -> None:
        self.target = target
        self.url = target.root
        self.limit = Limit(target, policy)
        self.in_flight = 0
        self.leaving = False
        self.breaker = Breaker.CLOSED
        self.answered_at = 0.0
        self.quiet_since = time.monotonic()
        self.reachable_at = -math.inf
        self.throttled = 0
        self.refused: list[RefusedRow] = []
        self.doubts = 0
        self.last_error = ""
        self.gauges: Mapping[str, float] | None = None
        self.occupancy = Occupancy(target.slots)
        self.policy = policy
        self._streak: list[RowInFlight] = []

    @property
    def has_room(self) -> bool:
        """Whether a request may be sent now."""
        return self.breaker is Breaker.CLOSED and self.in_flight < self.limit.value and not self.leaving

    @property
    def load(self) -> float:
        """Share of the limit in use."""
        return self.in_flight / self.limit.value

    @property
    def heard_at(self) -> float:
        """Since when something is overdue: its last sign of life, or when it had nothing to say."""
        return max(self.answered_at, self.quiet_since)

    def patience_seconds(self, now: float) -> float:
        """How long its silence is borne."""
        seconds = self.policy.unavailable_after_seconds
        return _SLOW * seconds if now - self.reachable_at < seconds else seconds

    def progress(self) -> EndpointProgress:
        """Numbers for people."""
        return EndpointProgress(
            base_url=self.url,
            in_flight=self.in_flight,
            limit=self.limit.value,
            available=self.breaker is Breaker.CLOSED,
            waiting=(self.gauges or {}).get("waiting"),
            idle_share=self.occupancy.idle_share,
        )

    def look(self, now: float, gauges: Mapping[str, float] | None) -> None:
        """Take in what it says of itself, and move the limit."""
        if gauges is not None:
            gauges = {name: value for name, value in gauges.items() if math.isfinite(value) and value >= 0.0}
        self.gauges = gauges
        if gauges is not None and "running" in gauges:
            self.occupancy.add(now, gauges["running"])
        elif self.target.slots is not None:
            self.occupancy.add(now, min(self.in_flight, self.target.slots))
        if self.breaker is not Breaker.RESTING:
            self.limit.poll(now, self.in_flight, gauges)

    def on_answer(self, now: float) -> None:
        """A reply that proves the engine alive, as far as nothing speaks against it.

        An endpoint that is doubted waits for its probe all the same: at the start of an outage, replies to what was in
        flight arrive among the failures, and each would let the next rows run into it.
        """
        self.answered_at = now
        self.throttled = 0
        if self.breaker is Breaker.CLOSED:
            self._streak.clear()

    def on_failure(self, row: RowInFlight, *, now: float, cause: str, detail: str) -> bool:
        """Charge a failure to its row; whether the endpoint should now be probed."""
        self.last_error = detail
        row.failed_at, row.cause, row.endpoint = now, cause, self
        if self.breaker is Breaker.OPEN:
            return False
        row.charged += 1
        self._streak.append(row)
        return self.breaker is Breaker.CLOSED and len(self._streak) >= self.policy.breaker_failures

    async def prove(self, wire: Wire, probe: ProbeRequest) -> bool:
        """Ask for one token; whether it is alive.

        A probe may have to wait behind long answers, and then says nothing: as long as those come, nothing is wrong.
        """
        seconds = min(self.policy.probe_timeout_seconds, self.policy.silence_seconds)
        asked_at = time.monotonic()
        reply: Reply = await wire.post(self.url + probe.path, probe.body, timeout_seconds=seconds)
        said = _amiss(reply)
        busy = reply.failure == "timeout" and self.answered_at > asked_at - self.policy.probe_cap_seconds
        if reply.failure == "timeout" and not busy:
            server = await wire.get(self.url + _MODELS_PATH, timeout_seconds=min(seconds, _SERVER_SECONDS))
            if 0 < server.status < 500:
                self.reachable_at = time.monotonic()
        if said is not None and not busy:
            self.last_error = said
        return said is None or busy

    def open(self) -> None:
        """It is down: what failed against it was not the rows' fault."""
        self.breaker = Breaker.OPEN
        for row in self._streak:
            row.charged -= 1
        self._streak.clear()

    def close(self, now: float) -> None:
        """It is alive: charges stand, and rows that were waiting for this proof can be judged."""
        self.answered_at = now
        self._streak.clear()
        if self.breaker is Breaker.OPEN:
            self.limit.on_recovery()
        self.breaker = Breaker.CLOSED


async def examine(
    endpoint: EndpointState,
    wire: Wire,
    *,
    probe: ProbeRequest,
    on_change: Callable[[], None],
) -> None:
    """Settle a suspicion: close the breaker again at once, or keep it open until a probe succeeds."""
    policy = endpoint.policy
    if await endpoint.prove(wire, probe):
        endpoint.close(time.monotonic())
    else:
        endpoint.open()
    delay = policy.probe_seconds
    while endpoint.breaker is Breaker.OPEN and not endpoint.leaving:
        await asyncio.sleep(delay)
        delay = min(policy.probe_cap_seconds, 1.5 * delay)
        if await endpoint.prove(wire, probe):
            endpoint.close(time.monotonic())
    on_change()


async def rest(endpoint: EndpointState, seconds: float, *, on_change: Callable[[], None]) -> None:
    """Leave an endpoint alone that refuses whatever comes, then try again."""
    await asyncio.sleep(seconds)
    if endpoint.breaker is Breaker.RESTING:
        endpoint.breaker = Breaker.CLOSED
        endpoint.limit.on_rested(time.monotonic())
    on_change()


def _amiss(reply: Reply) -> str | None:
    """What speaks against an endpoint that was asked for a token; None where nothing does."""
    if reply.status in _ALIVE:
        return None
    if reply.status != 200:
        return reply.detail or f"HTTP {reply.status}"
    try:
        unpacked(reply.body)
    except NoCompletion as error:
        return str(error)
    return None
