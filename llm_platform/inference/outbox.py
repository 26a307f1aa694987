"""Finished rows on their way to the sink."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_platform.inference.answers import Reading
from llm_platform.inference.meter import Meter
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.requests import PreparedRequest
from llm_platform.inference.sink import SinkWriter
from llm_platform.records import Completion, CompletionStatus, Release


@dataclass(frozen=True)
class Origin:
    """What is written on every row of a run."""

    run_id: str = ""
    documents_snapshot: int | None = None


class Outbox:
    """Turns readings into rows and hands them over in batches."""

    def __init__(
        self, writer: SinkWriter, *, release: Release, origin: Origin, meter: Meter, policy: EnginePolicy
    ) -> None:
        self._writer, self._meter, self._policy, self._origin = writer, meter, policy, origin
        # Both are hashes over the whole release: computed once, not per row.
        self._release_id, self._request_id = release.release_id, release.request_id
        self._rows: list[Completion] = []
        self._since = 0.0

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the sink that nothing more should be sent."""
        return self._writer.backlog + len(self._rows) >= self._policy.max_backlog_rows

    def add(
        self,
        request: PreparedRequest,
        reading: Reading,
        *,
        endpoint: str = "",
        latency_seconds: float = 0.0,
        attempts: int = 1,
    ) -> None:
        """One row is finished."""
        self._meter.done += 1
        if reading.status is not CompletionStatus.VALID:
            self._meter.failed[reading.status.value] += 1
        if not self._rows:
            self._since = time.monotonic()
        self._rows.append(
            Completion(
                release_id=self._release_id,
                request_id=self._request_id,
                fingerprint=request.fingerprint,
                document_id=request.document_id,
                status=reading.status,
                answer=reading.answer,
                confidence=reading.confidence,
                label_logprobs=reading.label_logprobs,
                raw=reading.raw,
                reason=_reason(reading, request.cut_tokens),
                finish_reason=reading.finish_reason,
                prompt_tokens=reading.prompt_tokens,
                completion_tokens=reading.completion_tokens,
                cached_tokens=reading.cached_tokens,
                latency_seconds=latency_seconds,
                attempts=attempts,
                endpoint=endpoint,
                run_id=self._origin.run_id,
                documents_snapshot=self._origin.documents_snapshot,
                created_at=datetime.now(UTC),
                cut_tokens=request.cut_tokens,
            )
        )
        if len(self._rows) >= self._policy.batch_rows:
            self.flush()

    def flush_old(self, now: float) -> None:
        """Hand over what has waited long enough."""
        if self._rows and now - self._since >= self._policy.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Hand over everything."""
        if self._rows:
            self._writer.put(self._rows)
            self._rows = []


def _reason(reading: Reading, cut_tokens: int | None) -> str | None:
    """Why there is no answer, and what it does not rest on: readers of published rows see no other column of this."""
    if cut_tokens is None:
        return reading.reason
    cut = f"the last {cut_tokens:,} tokens of the document do not fit the model's context and were cut off"
    return cut if reading.reason is None else f"{reading.reason}; {cut}"
