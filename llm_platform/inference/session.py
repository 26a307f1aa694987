"""One run of the engine: the loop that keeps every endpoint as full as its limit allows.

There are as many workers as requests in flight. A worker that has finished a request takes the next one itself; when
there is none, or no room, it ends, and `pump` starts workers again as soon as there is. So nothing is kept per row
before it is sent or after its answer is handed over, and a row that waits for a retry holds no worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from llm_platform.inference.allowance import Allowance
from llm_platform.inference.answers import AnswerReader
from llm_platform.inference.descriptors import connections_allowed
from llm_platform.inference.endpoint import Breaker, EndpointState, RowInFlight, examine, rest
from llm_platform.inference.feed import Feed
from llm_platform.inference.homes import Homes
from llm_platform.inference.meter import Meter
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.refusals import ask_whose, is_pending
from llm_platform.inference.requests import ProbeRequest
from llm_platform.inference.retries import Retries
from llm_platform.inference.triage import Triage
from llm_platform.inference.wire import Wire


class SendingSession:
    """Sends rows. A `Triage` decides on replies; `Supervision` beside it watches time, limits and the sink."""

    def __init__(
        self,
        feed: Feed,
        *,
        targets: Sequence[EndpointTarget],
        wire: Wire,
        reader: AnswerReader,
        outbox: Outbox,
        meter: Meter,
        policy: EnginePolicy,
        allowance: Allowance,
        probe: ProbeRequest,
        has_answers: Callable[[], bool],
    ) -> None:
        self.endpoints = [EndpointState(target, policy) for target in targets]
        self.error: BaseException | None = None
        self.ending = False
        self.peak_workers = 0
        self._feed, self._wire, self._outbox, self._meter = feed, wire, outbox, meter
        self._policy, self._probe, self._allowance = policy, probe, allowance
        self._has_answers, self._connections = has_answers, connections_allowed()
        self._retries = Retries(policy)
        self.triage = Triage(
            reader,
            outbox=outbox,
            meter=meter,
            policy=policy,
            retries=self._retries,
            on_fail=self.fail,
            on_suspect=self.suspect,
            on_doubt=self._doubt,
            on_rest=self._rest,
        )
        self._homes = Homes()
        self._workers: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Send everything there is, or until something ends the run."""
        self._feed.start(self.pump)
        try:
            self.pump()
            while not self._finished():
                self._changed.clear()
                await self._changed.wait()
        finally:
            await self._wind_down()

    def fail(self, error: BaseException) -> None:
        """End the run; the first reason counts."""
        self.error = self.error or error
        self.end()

    def end(self) -> None:
        """Send nothing more."""
        self.ending = True
        self._changed.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the workers for as long as the run lasts; its failure is the run's."""
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._ended)

    def pump(self) -> None:
        """Start as many workers as there is room and work for."""
        try:
            while len(self._workers) < self._connections and (job := self._take()) is not None:
                worker = asyncio.create_task(self._work(*job))
                self._workers.add(worker)
                worker.add_done_callback(self._ended)
        except BaseException as error:  # noqa: BLE001 - carried to the caller of the run, which raises it
            self.fail(error)
        self.peak_workers = max(self.peak_workers, len(self._workers))
        if not self._workers and not self.ending:
            # Nothing is in flight that might show whose fault a refusal is.
            for endpoint in filter(is_pending, self.endpoints):
                self._doubt(endpoint)
        if self._finished():
            self._changed.set()

    def update_endpoints(self, targets: Sequence[EndpointTarget]) -> list[EndpointState]:
        """Take in endpoints that are new, and send nothing more to those that are gone; the new ones."""
        listed = {target.root: target for target in targets}
        for endpoint in self.endpoints:
            endpoint.leaving = endpoint.url not in listed
        known = {endpoint.url for endpoint in self.endpoints}
        new = [EndpointState(target, self._policy) for root, target in listed.items() if root not in known]
        self.endpoints = [one for one in self.endpoints if one.in_flight or one.refused or not one.leaving] + new
        return new

    def _finished(self) -> bool:
        return self.ending or (
            self._feed.exhausted
            and not self._retries
            and not self._homes
            and not self._workers
            and not any(endpoint.refused for endpoint in self.endpoints)
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        self._others.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        if self._finished():
            self._changed.set()

    async def _wind_down(self) -> None:
        self.ending = True
        self._feed.close()
        for task in self._others:
            task.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=self._policy.drain_seconds)
        rest = [*self._workers, *self._others]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        self._outbox.flush()

    async def _work(self, row: RowInFlight, endpoint: EndpointState) -> None:
        job: tuple[RowInFlight, EndpointState] | None = (row, endpoint)
        while job is not None:
            row, endpoint = job
            self._meter.sent += 1
            row.sent += 1
            sent_at = time.monotonic()
            try:
                reply = await self._wire.post(
                    endpoint.url + row.request.path,
                    row.request.body,
                    timeout_seconds=self._policy.request_timeout_seconds,
                )
            finally:
                endpoint.in_flight -= 1
            prompt, completion = self._meter.prompt_tokens, self._meter.completion_tokens
            self.triage.decide(row, endpoint, reply, sent_at=sent_at)
            self._allowance.settle(
                id(row),
                reply,
                prompt_tokens=self._meter.prompt_tokens - prompt,
                completion_tokens=self._meter.completion_tokens - completion,
            )
            job = self._take()

    def _take(self) -> tuple[RowInFlight, EndpointState] | None:
        if self.ending or self._outbox.is_full:
            return None
        endpoint = self._least_loaded()
        row = self._next_row(endpoint) if endpoint is not None else None
        if endpoint is None or row is None:
            return None
        if not self._allowance.admits(id(row), row.request.body):
            # It is tried again as soon as a reply has left some of what was reserved for it.
            self._retries.put(row, at=time.monotonic())
            return None
        endpoint.in_flight += 1
        return row, endpoint

    def _least_loaded(self) -> EndpointState | None:
        if len(self.endpoints) == 1:
            return self.endpoints[0] if self.endpoints[0].has_room else None
        return min((one for one in self.endpoints if one.has_room), key=lambda one: one.load, default=None)

    def _next_row(self, endpoint: EndpointState) -> RowInFlight | None:
        now = time.monotonic()
        while (row := self._retries.pop(now)) is not None:
            if not self._is_out_of_attempts(row, now) or not self._gives_up(row, now):
                return row
        alone = len(self.endpoints) == 1 and not self._homes
        request = self._feed.take() if alone else self._homes.next(endpoint, self._feed.take)
        return None if request is None else RowInFlight(request)

    def _is_out_of_attempts(self, row: RowInFlight, now: float) -> bool:
        policy = self._policy
        return row.charged >= policy.attempts or (
            row.charged >= 2 and now - row.failing_since >= policy.give_up_seconds
        )

    def _gives_up(self, row: RowInFlight, now: float) -> bool:
        """Whether a row that is out of attempts is not sent: only once its endpoint has been shown to be alive."""
        endpoint = row.endpoint
        if endpoint is None or endpoint.breaker is Breaker.OPEN:
            return False
        if endpoint.answered_at > row.failed_at:
            self.triage.gives_up(row, now)
            return True
        self.suspect(endpoint)
        self._retries.put(row, at=now + self._policy.probe_seconds)
        return True

    def suspect(self, endpoint: EndpointState) -> None:
        """Have an endpoint asked whether it is alive; nothing is sent to it meanwhile."""
        if endpoint.breaker is Breaker.CLOSED:
            endpoint.breaker = Breaker.SUSPECT
            self.spawn(examine(endpoint, self._wire, probe=self._probe, on_change=self.pump))

    def _rest(self, endpoint: EndpointState, seconds: float) -> None:
        if endpoint.breaker is Breaker.CLOSED:
            endpoint.breaker = Breaker.RESTING
            self.spawn(rest(endpoint, seconds, on_change=self.pump))

    def _doubt(self, endpoint: EndpointState) -> None:
        if endpoint.breaker is Breaker.CLOSED:
            endpoint.breaker = Breaker.SUSPECT
            self.spawn(self._ask_whose(endpoint))

    async def _ask_whose(self, endpoint: EndpointState) -> None:
        asked_at = time.monotonic()
        verdict = await ask_whose(
            endpoint,
            self._wire,
            timeout_seconds=min(self._policy.request_timeout_seconds, self._policy.unavailable_after_seconds),
            has_answered=self._has_got_through,
        )
        if not isinstance(verdict, bool):
            self.fail(verdict)
            return
        answers = verdict and not endpoint.doubts
        if verdict:
            self.triage.settle(endpoint, before=asked_at)
        if answers:
            endpoint.close(time.monotonic())
            self.pump()
        else:
            # What is left is looked into again when it is back.
            await examine(endpoint, self._wire, probe=self._probe, on_change=self.pump)

    def _has_got_through(self) -> bool:
        return self._meter.latency.count > 0 or self._has_answers()
