"""What each reply means for its row, its endpoint and the run.

| reply | row | endpoint |
| --- | --- | --- |
| 200, a completion | stored, or asked once more if its form is wrong | alive |
| 200, anything else; 408, 5xx; no whole reply | asked again, charged unless it is an outage | failing |
| the same, out of attempts, on an endpoint that answers | stored as failed | alive |
| 429 | asked again later and later, not charged | its limit was too high; rested if it refuses all |
| 401, 402, 404, 405, 407, a redirect, no quota, an unknown certificate | the run ends: all rows would meet the same | |
| other 4xx | stored as refused, once others got through: see `inference.refusals` | alive |
"""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_platform.errors import EndpointMismatch
from llm_platform.inference import reasons
from llm_platform.inference.answers import AnswerReader, ReadAnswer
from llm_platform.inference.bodies import NoCompletion
from llm_platform.inference.endpoint import EndpointState, RefusedRow, RowInFlight
from llm_platform.inference.meter import Meter
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.reasons import NotACompletion, refused
from llm_platform.inference.refusals import mismatch, untrusted
from llm_platform.inference.requests import repair_request
from llm_platform.inference.retries import Retries, retry_after_seconds
from llm_platform.inference.thoughts import divided
from llm_platform.inference.wire import Reply
from llm_platform.records import CompletionStatus

_TRANSIENT = frozenset({0, 408, 425})


class Triage:
    """Decides, and writes the decision where it belongs.

    Attributes:
        troubled: Whether there are failures that no answer has followed yet.
        on_fail: Ends the run.
        on_suspect: Has an endpoint examined.
        on_doubt: Has an endpoint asked whether it refuses all, or only some.
        on_rest: Leaves an endpoint alone for so many seconds.
    """

    def __init__(
        self,
        reader: AnswerReader,
        *,
        outbox: Outbox,
        meter: Meter,
        policy: EnginePolicy,
        retries: Retries,
        on_fail: Callable[[EndpointMismatch], None],
        on_suspect: Callable[[EndpointState], None],
        on_doubt: Callable[[EndpointState], None],
        on_rest: Callable[[EndpointState, float], None],
    ) -> None:
        self.troubled = False
        self._reader, self._outbox, self._meter, self._policy, self._retries = reader, outbox, meter, policy, retries
        self._on_fail, self._on_suspect = on_fail, on_suspect
        self._on_doubt, self._on_rest = on_doubt, on_rest

    def decide(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, sent_at: float) -> None:
        """Take in one reply."""
        now = time.monotonic()
        if reply.status == 200:
            self._read(row, endpoint, reply, sent_at=sent_at, now=now)
        else:
            self._not_answered(row, endpoint, reply, sent_at=sent_at, now=now)

    def gives_up(self, row: RowInFlight, now: float) -> None:
        """A row is out of attempts on an endpoint that answers: store what is known of it."""
        assert row.endpoint is not None  # it has failed there
        reading = row.invalid or ReadAnswer(
            CompletionStatus.FAILED,
            reason=reasons.gave_up(row.cause, attempts=row.charged, seconds=now - row.failing_since),
            said=reasons.kept(row.said) or None,
            cause=f"gave_up_{row.cause}",
        )
        self._finish(row, row.endpoint, reading, 0.0)

    def settle(self, endpoint: EndpointState, *, before: float) -> None:
        """What an endpoint refused before then was refused for itself, since it takes others."""
        own = [one for one in endpoint.refused if one.at < before]
        endpoint.refused = [one for one in endpoint.refused if one.at >= before]
        endpoint.doubts = 0
        for one in own:
            reading = ReadAnswer(CompletionStatus.REJECTED, reason=one.refused.reason, said=one.refused.said)
            self._finish(one.row, endpoint, reading, one.latency_seconds)

    def _read(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, sent_at: float, now: float) -> None:
        try:
            reading = self._reader.read(reply.body)
        except NoCompletion as error:
            self._unreadable(row, endpoint, reply, error, sent_at=sent_at, now=now)
            return
        latency_seconds = now - sent_at
        self._answered(endpoint, now)
        if endpoint.refused:
            self.settle(endpoint, before=sent_at)
        self._meter.count(reading, latency_seconds)
        endpoint.limit.on_answer(now, latency_seconds=latency_seconds, in_flight=endpoint.in_flight)
        if reading.status is CompletionStatus.INVALID and self._asks_once_more(row, reading):
            self._meter.wasted_tokens += reading.prompt_tokens + reading.completion_tokens
            self._meter.retries["invalid_answer"] += 1
            row.invalid = reading
            said = divided(reading.raw).answer or reading.raw
            row.request = repair_request(row.request, answer=said, reason=reading.reason or "")
            self._retries.put(row, at=now)
            return
        self._finish(row, endpoint, reading, latency_seconds)

    def _asks_once_more(self, row: RowInFlight, reading: ReadAnswer) -> bool:
        return row.invalid is None and reading.may_be_repaired and self._policy.repair and self._reader.can_repair

    def _unreadable(
        self,
        row: RowInFlight,
        endpoint: EndpointState,
        reply: Reply,
        error: NoCompletion,
        *,
        sent_at: float,
        now: float,
    ) -> None:
        """A body that is no completion: an error that came with status 200 is what it would be with its own."""
        if error.kind is NotACompletion.ERROR:
            status = error.status or (400 if refused(400, error.body).is_of_the_set_up else None)
            if status is not None:
                self._not_answered(row, endpoint, Reply(status, reply.headers, error.body), sent_at=sent_at, now=now)
                return
        self._failed(row, endpoint, reply, cause="unreadable", detail=str(error), sent_at=sent_at, now=now)

    def _not_answered(
        self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, sent_at: float, now: float
    ) -> None:
        status = reply.status
        if reply.failure == "connect" and "certificate" in reply.detail:
            self._on_fail(untrusted(endpoint, reply))
        elif status == 429 and not refused(status, reply.body).is_of_the_set_up:
            self._throttled(row, endpoint, reply, now)
        elif status in _TRANSIENT or status >= 500 or 200 < status < 300:
            cause = reply.failure or f"http_{status}"
            detail = reply.detail or f"HTTP {status}"
            self._failed(row, endpoint, reply, cause=cause, detail=detail, sent_at=sent_at, now=now)
        else:
            self._refused(row, endpoint, reply, sent_at=sent_at, now=now)

    def _refused(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, sent_at: float, now: float) -> None:
        found = refused(reply.status, reply.body)
        if found.is_of_the_set_up:
            self._on_fail(mismatch(endpoint, row.request.path, reply.status, found))
            return
        self._answered(endpoint, now)
        if row.invalid is not None:
            # What is refused is the second question; the first one has an answer, if not a valid one.
            self._finish(row, endpoint, row.invalid, now - sent_at)
            return
        endpoint.refused.append(RefusedRow(row, reply.status, found, now - sent_at, now))
        if len(endpoint.refused) >= self._policy.refused_together:
            self._on_doubt(endpoint)

    def _answered(self, endpoint: EndpointState, now: float) -> None:
        endpoint.on_answer(now)
        self.troubled = False

    def _finish(self, row: RowInFlight, endpoint: EndpointState, reading: ReadAnswer, latency_seconds: float) -> None:
        self._outbox.add(
            row.request, reading, endpoint=endpoint.url, latency_seconds=latency_seconds, attempts=row.sent
        )

    def _throttled(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, now: float) -> None:
        self._meter.retries["http_429"] += 1
        self.troubled = True
        row.throttled += 1
        endpoint.last_error = "HTTP 429"
        endpoint.limit.on_refusal(now, endpoint.in_flight)
        asked_seconds = retry_after_seconds(reply.headers)
        # Only this row waits: pausing the endpoint for one Retry-After would cost ten times the run.
        self._retries.put_after(row, now=now, failures=row.throttled, asked_seconds=asked_seconds)
        if not endpoint.in_flight:
            # Not even one request was taken.
            endpoint.throttled += 1
            self._on_rest(endpoint, max(asked_seconds, self._retries.backoff_seconds(endpoint.throttled)))

    def _failed(
        self,
        row: RowInFlight,
        endpoint: EndpointState,
        reply: Reply,
        *,
        cause: str,
        detail: str,
        sent_at: float,
        now: float,
    ) -> None:
        self._meter.retries[cause] += 1
        row.failing_since = row.failing_since or sent_at
        self.troubled = True
        row.said = reply.body
        if endpoint.on_failure(row, now=now, cause=cause, detail=detail):
            self._on_suspect(endpoint)
        self._retries.put_failed(row, now=now, asked_seconds=retry_after_seconds(reply.headers))
