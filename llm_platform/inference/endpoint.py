"""One endpoint during a run: how much it gets, and whether it is believed to be alive.

A failure is charged to the row that met it. When failures follow each other, the endpoint is asked for one token: if it
answers, the charges stand; if it does not, this is an outage, the charges are taken back, and nothing but such probes
is sent until one succeeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from llm_platform.inference.limits import Limit
from llm_platform.inference.meter import EndpointProgress, Occupancy
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import COMPLETION_PATH, PreparedRequest
from llm_platform.inference.wire import Reply, Wire


@dataclass(slots=True, eq=False)
class RowInFlight:
    """One document between its first request and its answer.

    Attributes:
        sent: Requests made for it.
        charged: Failures that were its own fault, as far as can be told.
        failed_at, cause, endpoint: When, how and where its last request failed.
        repaired: Whether an invalid answer was already asked for again.
    """

    request: PreparedRequest
    sent: int = 0
    charged: int = 0
    failed_at: float = 0.0
    cause: str = ""
    endpoint: EndpointState | None = None
    repaired: bool = False


class Breaker(Enum):
    """What is believed about an endpoint."""

    CLOSED = auto()
    SUSPECT = auto()
    OPEN = auto()


class EndpointState:
    """Limit, breaker and counters of one endpoint.

    Attributes:
        url: Its root, to which paths are appended.
        answered_at: When a reply last proved its engine alive.
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
        self.gauges = gauges
        if gauges is not None and "running" in gauges:
            self.occupancy.add(now, gauges["running"])
        elif self.target.slots is not None:
            self.occupancy.add(now, min(self.in_flight, self.target.slots))
        self.limit.poll(now, self.in_flight, gauges)

    def on_answer(self, now: float) -> None:
        """A reply that proves the engine alive, as far as nothing speaks against it.

        An endpoint that is doubted waits for its probe all the same: at the start of an outage, replies to what was in
        flight arrive among the failures, and each would let the next rows run into it.
        """
        self.answered_at = now
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

    async def prove(self, wire: Wire, *, body: bytes) -> bool:
        """Ask for one token; whether it is alive.

        A probe may have to wait behind long answers, and then says nothing: as long as those come, nothing is wrong.
        """
        seconds = self.policy.probe_timeout_seconds
        reply: Reply = await wire.post(self.url + COMPLETION_PATH, body, timeout_seconds=seconds)
        alive = reply.status == 200 and b'"choices"' in reply.body
        busy = reply.failure == "timeout" and time.monotonic() - self.answered_at < seconds / 2
        if not (alive or busy):
            self.last_error = reply.detail or f"HTTP {reply.status}"
        return alive or busy

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
    body: bytes,
    on_change: Callable[[], None],
) -> None:
    """Settle a suspicion: close the breaker again at once, or keep it open until a probe succeeds."""
    policy = endpoint.policy
    if await endpoint.prove(wire, body=body):
        endpoint.close(time.monotonic())
    else:
        endpoint.open()
    delay = policy.probe_seconds
    while endpoint.breaker is Breaker.OPEN and not endpoint.leaving:
        await asyncio.sleep(delay)
        delay = min(policy.probe_cap_seconds, 1.5 * delay)
        if await endpoint.prove(wire, body=body):
            endpoint.close(time.monotonic())
    on_change()
