"""What each reply means for its row, its endpoint and the run.

| reply | row | endpoint |
| --- | --- | --- |
| 200, a completion | stored, or asked once more if invalid | alive |
| 200, anything else; 408, 5xx; no whole reply | asked again, charged unless it is an outage | failing |
| 429 | asked again, not charged | its limit was too high |
| 401, 403, 404, 405, a redirect, an unknown certificate | the run ends: every row would meet the same | |
| other 4xx | stored as refused | alive |
"""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.inference.answers import AnswerReader, ReadAnswer
from llm_platform.inference.endpoint import EndpointState, RowInFlight
from llm_platform.inference.meter import Meter
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.reasons import refused
from llm_platform.inference.requests import repair_request
from llm_platform.inference.retries import Retries, retry_after_seconds
from llm_platform.inference.wire import Reply
from llm_platform.records import CompletionStatus

_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
_TRANSIENT = frozenset({0, 408, 425})


class Triage:
    """Decides, and writes the decision where it belongs.

    Attributes:
        trouble_since: When the failures began that no answer has followed yet; None while all is well.
        on_fail: Ends the run.
        on_suspect: Has an endpoint examined.
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
    ) -> None:
        self.trouble_since: float | None = None
        self._reader, self._outbox, self._meter, self._policy, self._retries = reader, outbox, meter, policy, retries
        self._on_fail, self._on_suspect = on_fail, on_suspect

    def decide(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, sent_at: float) -> None:
        """Take in one reply."""
        now, status = time.monotonic(), reply.status
        if status == 200:
            self._read(row, endpoint, reply, latency_seconds=now - sent_at, now=now)
        elif status == 429:
            self._throttled(row, endpoint, reply, now)
        elif reply.failure == "connect" and "certificate" in reply.detail:
            self._on_fail(_untrusted(endpoint, reply))
        elif status in _TRANSIENT or status >= 500 or 200 < status < 300:
            cause = reply.failure or f"http_{status}"
            self._failed(row, endpoint, reply, cause=cause, detail=reply.detail or f"HTTP {status}", now=now)
        elif status in _MISCONFIGURED:
            self._on_fail(_mismatch(row, endpoint, reply))
        else:
            found = refused(status, reply.body)
            self._answered(endpoint, now)
            reading = ReadAnswer(CompletionStatus.REJECTED, reason=found.reason, said=found.said)
            self._finish(row, endpoint, reading, now - sent_at)

    def _read(
        self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, latency_seconds: float, now: float
    ) -> None:
        try:
            reading = self._reader.read(reply.body)
        except EndpointUnavailable as error:
            self._failed(row, endpoint, reply, cause="unreadable", detail=str(error), now=now)
            return
        self._answered(endpoint, now)
        self._meter.count(reading, latency_seconds)
        tokens = reading.prompt_tokens + reading.completion_tokens
        endpoint.limit.on_answer(now, latency_seconds=latency_seconds, in_flight=endpoint.in_flight)
        invalid = reading.status is CompletionStatus.INVALID
        if invalid and not row.repaired and self._policy.repair and self._reader.can_repair:
            self._meter.wasted_tokens += tokens
            self._meter.retries["invalid_answer"] += 1
            row.repaired = True
            row.request = repair_request(row.request, answer=reading.raw, reason=reading.reason or "")
            self._retries.put(row, at=now)
            return
        self._finish(row, endpoint, reading, latency_seconds)

    def _answered(self, endpoint: EndpointState, now: float) -> None:
        endpoint.on_answer(now)
        self.trouble_since = None

    def _finish(self, row: RowInFlight, endpoint: EndpointState, reading: ReadAnswer, latency_seconds: float) -> None:
        self._outbox.add(
            row.request, reading, endpoint=endpoint.url, latency_seconds=latency_seconds, attempts=row.sent
        )

    def _throttled(self, row: RowInFlight, endpoint: EndpointState, reply: Reply, now: float) -> None:
        self._meter.retries["http_429"] += 1
        self.trouble_since = self.trouble_since or now
        endpoint.last_error = "HTTP 429"
        endpoint.limit.on_refusal(now, endpoint.in_flight)
        # Only this row waits: pausing the endpoint for one Retry-After would cost ten times the run.
        self._retries.put_after(row, now=now, failures=1, asked_seconds=retry_after_seconds(reply.headers))

    def _failed(
        self, row: RowInFlight, endpoint: EndpointState, reply: Reply, *, cause: str, detail: str, now: float
    ) -> None:
        self._meter.retries[cause] += 1
        self.trouble_since = self.trouble_since or now
        if endpoint.on_failure(row, now=now, cause=cause, detail=detail):
            self._on_suspect(endpoint)
        asked_seconds = retry_after_seconds(reply.headers)
        self._retries.put_after(row, now=now, failures=row.charged, asked_seconds=asked_seconds)


def _mismatch(row: RowInFlight, endpoint: EndpointState, reply: Reply) -> EndpointMismatch:
    reason = refused(reply.status, reply.body).reason
    redirects = 300 <= reply.status < 400
    step = "Name the final address; 'curl -i' shows it." if redirects else "Check address, key and model name."
    return EndpointMismatch(f"{endpoint.url}{row.request.path} refuses requests as such: {reason}. {step}")


def _untrusted(endpoint: EndpointState, reply: Reply) -> EndpointMismatch:
    return EndpointMismatch(
        f"{endpoint.url} shows a certificate that is not trusted ({reply.detail}). Name the file of your certificate "
        "authority in the settings."
    )
