"""One run of the engine: the loop that keeps every endpoint as full as its limit allows.

There are as many workers as requests in flight. A worker that has finished a request takes the next one itself; when
there is none, or no room, it ends, and `_pump` starts workers again as soon as there is. So nothing is kept per row
before it is sent or after its answer is handed over, and a row that waits for a retry holds no worker.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.inference.answers import AnswerReader, Reading
from llm_platform.inference.endpoint import Breaker, EndpointState, Row, backoff_seconds, examine, retry_after_seconds
from llm_platform.inference.feed import Feed
from llm_platform.inference.meter import Meter
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.refusals import refusal
from llm_platform.inference.requests import repair_request
from llm_platform.inference.wire import Reply, Wire
from llm_platform.records import CompletionStatus

# These say that the address, the key or the model name is wrong: every row would meet the same.
_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
# Beside all of 5xx.
_TRANSIENT = frozenset({0, 408, 425})


class Session:
    """Sends rows and judges replies. `Supervision` beside it watches time, limits and the sink."""

    def __init__(
        self,
        feed: Feed,
        *,
        endpoints: Sequence[EndpointState],
        wire: Wire,
        reader: AnswerReader,
        outbox: Outbox,
        meter: Meter,
        policy: EnginePolicy,
        probe: bytes,
    ) -> None:
        self.endpoints = endpoints
        self.error: BaseException | None = None
        self.ending = False
        self.trouble_since: float | None = None
        self.peak_workers = 0
        self._feed, self._wire, self._reader, self._outbox = feed, wire, reader, outbox
        self._meter, self._policy, self._probe = meter, policy, probe
        self._retries: list[tuple[float, int, Row]] = []
        self._order = itertools.count()
        self._jitter = random.Random(policy.seed)
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
            while (job := self._take()) is not None:
                worker = asyncio.create_task(self._work(*job))
                self._workers.add(worker)
                worker.add_done_callback(self._ended)
        except BaseException as error:  # noqa: BLE001 - carried to the caller of the run, which raises it
            self.fail(error)
        self.peak_workers = max(self.peak_workers, len(self._workers))
        if self._finished():
            self._changed.set()

    def _finished(self) -> bool:
        return self.ending or (self._feed.exhausted and not self._retries and not self._workers)

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

    # Taking and sending

    def _take(self) -> tuple[Row, EndpointState] | None:
        if self.ending or self._outbox.is_full:
            return None
        endpoint = self._least_loaded()
        row = self._next_row() if endpoint is not None else None
        if endpoint is None or row is None:
            return None
        endpoint.in_flight += 1
        return row, endpoint

    def _least_loaded(self) -> EndpointState | None:
        if len(self.endpoints) == 1:
            return self.endpoints[0] if self.endpoints[0].has_room else None
        return min((one for one in self.endpoints if one.has_room), key=lambda one: one.load, default=None)

    def _next_row(self) -> Row | None:
        while self._retries and self._retries[0][0] <= time.monotonic():
            row = heapq.heappop(self._retries)[2]
            if row.charged < self._policy.attempts or not self._gives_up(row):
                return row
        request = self._feed.take()
        return None if request is None else Row(request)

    def _gives_up(self, row: Row) -> bool:
        """Whether a row that is out of attempts is not to be sent: only once its endpoint is shown to be alive."""
        endpoint = row.endpoint
        if endpoint is None or endpoint.breaker is Breaker.OPEN:
            return False
        if endpoint.answered_at > row.failed_at:
            self._meter.done += 1
            self._meter.failed[f"gave_up_{row.cause}"] += 1
            return True
        self._suspect(endpoint)
        self._put_back(row, at=time.monotonic() + self._policy.probe_seconds)
        return True

    def _suspect(self, endpoint: EndpointState) -> None:
        if endpoint.breaker is Breaker.CLOSED:
            endpoint.breaker = Breaker.SUSPECT
            self.spawn(examine(endpoint, self._wire, body=self._probe, jitter=self._jitter, on_change=self.pump))

    async def _work(self, row: Row, endpoint: EndpointState) -> None:
        job: tuple[Row, EndpointState] | None = (row, endpoint)
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
            if reply.status == 200:
                self._read(row, endpoint, reply, sent_at=sent_at)
            else:
                self._refused(row, endpoint, reply, sent_at=sent_at)
            job = self._take()

    # Judging replies

    def _read(self, row: Row, endpoint: EndpointState, reply: Reply, *, sent_at: float) -> None:
        try:
            reading = self._reader.read(reply.body)
        except EndpointUnavailable as error:
            self._retry(row, endpoint, cause="unreadable", detail=str(error))
            return
        now = time.monotonic()
        self._answered(endpoint, now)
        self._meter.count(reading, now - sent_at)
        tokens = reading.prompt_tokens + reading.completion_tokens
        endpoint.limit.on_answer(now - sent_at, tokens)
        invalid = reading.status is CompletionStatus.INVALID
        if invalid and not row.repaired and self._policy.repair and self._reader.can_repair:
            self._meter.wasted_tokens += tokens
            self._meter.retries["invalid_answer"] += 1
            row.repaired = True
            row.request = repair_request(row.request, answer=reading.raw, reason=reading.reason or "")
            self._put_back(row, at=now)
            return
        self._finish(row, endpoint, reading, now - sent_at)

    def _refused(self, row: Row, endpoint: EndpointState, reply: Reply, *, sent_at: float) -> None:
        status, now = reply.status, time.monotonic()
        if status == 429:
            self._throttled(row, endpoint, reply, now)
        elif status in _TRANSIENT or status >= 500 or 200 < status < 300:
            self._retry(
                row,
                endpoint,
                cause=reply.failure or f"http_{status}",
                detail=reply.detail or f"HTTP {status}",
                delay_seconds=retry_after_seconds(reply.headers),
            )
        elif status in _MISCONFIGURED:
            self.fail(_mismatch(row, endpoint, reply))
        else:
            self._answered(endpoint, now)
            reason = refusal(status, reply.body, request_body=row.request.body)
            self._finish(row, endpoint, Reading(CompletionStatus.REJECTED, reason=reason), now - sent_at)

    def _answered(self, endpoint: EndpointState, now: float) -> None:
        was_closed = endpoint.breaker is Breaker.CLOSED
        endpoint.on_answer(now)
        self.trouble_since = None
        if not was_closed:
            self.pump()

    def _finish(self, row: Row, endpoint: EndpointState, reading: Reading, latency_seconds: float) -> None:
        self._outbox.add(
            row.request, reading, endpoint=endpoint.url, latency_seconds=latency_seconds, attempts=row.sent
        )

    def _throttled(self, row: Row, endpoint: EndpointState, reply: Reply, now: float) -> None:
        """Too many at once: the limit was too high, which no row is charged for. Only this row waits."""
        self._meter.retries["http_429"] += 1
        self.trouble_since = self.trouble_since or now
        endpoint.last_error = "HTTP 429"
        endpoint.limit.on_refusal(now, endpoint.in_flight)
        delay = max(retry_after_seconds(reply.headers), backoff_seconds(1, policy=self._policy, jitter=self._jitter))
        self._put_back(row, at=now + delay)

    def _retry(self, row: Row, endpoint: EndpointState, *, cause: str, detail: str, delay_seconds: float = 0.0) -> None:
        now = time.monotonic()
        self._meter.retries[cause] += 1
        self.trouble_since = self.trouble_since or now
        if endpoint.on_failure(row, now=now, cause=cause, detail=detail):
            self._suspect(endpoint)
        delay = max(delay_seconds, backoff_seconds(row.charged, policy=self._policy, jitter=self._jitter))
        self._put_back(row, at=now + delay)

    def _put_back(self, row: Row, *, at: float) -> None:
        heapq.heappush(self._retries, (at, next(self._order), row))


def _mismatch(row: Row, endpoint: EndpointState, reply: Reply) -> EndpointMismatch:
    said = refusal(reply.status, reply.body, request_body=row.request.body)
    location = reply.headers.get("location")
    step = f"It redirects to {location}; name the final address." if location else "Check address, key and model name."
    return EndpointMismatch(f"{endpoint.url}{row.request.path} refuses requests as such: {said}. {step}")
