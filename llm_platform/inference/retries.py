"""When a failed request is sent again."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llm_platform.inference.endpoint import RowInFlight
from llm_platform.inference.policy import EnginePolicy

LONGEST_WAIT_SECONDS = 120.0
"""An endpoint that asks for more is asked after this: a gateway that says an hour would hold a run for an hour."""


class Retries:
    """Rows that wait for their next attempt; they hold no place in an endpoint's limit meanwhile."""

    def __init__(self, policy: EnginePolicy) -> None:
        self._policy = policy
        self._jitter = random.Random(policy.seed)
        self._heap: list[tuple[float, int, RowInFlight]] = []
        # Rows cannot be compared; this keeps those of equal time in order.
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, row: RowInFlight, *, at: float) -> None:
        """Let a row wait until then."""
        heapq.heappush(self._heap, (at, next(self._order), row))

    def put_after(self, row: RowInFlight, *, now: float, failures: int, asked_seconds: float = 0.0) -> None:
        """Let a row wait by its number of failures, and no shorter than the endpoint asked for."""
        self.put(row, at=now + max(asked_seconds, self.backoff_seconds(failures)))

    def put_failed(self, row: RowInFlight, *, now: float, asked_seconds: float = 0.0) -> None:
        """Let a row wait by its failures; the last attempt comes when a passing fault would have passed."""
        policy = self._policy
        at = now + max(asked_seconds, self.backoff_seconds(row.charged))
        if row.charged == policy.attempts - 1:
            at = max(at, row.failing_since + policy.attempts_seconds)
        self.put(row, at=now if row.charged >= policy.attempts else at)

    def pop(self, now: float) -> RowInFlight | None:
        """A row whose time has come."""
        return heapq.heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    def backoff_seconds(self, failures: int) -> float:
        """Doubling from `backoff_seconds`, at most `backoff_cap_seconds`, of which half is random."""
        doubled = self._policy.backoff_seconds * 2.0 ** min(max(failures, 1) - 1, 30)
        return min(self._policy.backoff_cap_seconds, doubled) * (0.5 + 0.5 * self._jitter.random())


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """What the endpoint asked for, as seconds or as a date, in seconds from now, at most two minutes.

    0 where it did not ask.
    """
    said = headers.get("retry-after") or "0"
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            seconds = 0.0
    # Zero first: of a NaN, which no row must wait for, `max` then keeps the zero.
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)
