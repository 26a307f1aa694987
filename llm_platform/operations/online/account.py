"""What a service has sent and paid for one release, put on record in pieces while it goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llm_platform.inference.live import LiveAnswers
from llm_platform.operations.answering.sending import Asking
from llm_platform.records import InferenceRun, TokenUsage


@dataclass(frozen=True)
class _Sums:
    """Of one engine, since it began; `busy_seconds` since the service did."""

    at: datetime
    busy_seconds: float
    sent: int = 0
    stored: int = 0
    wasted_tokens: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    failed: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)


class OnlineAccount:
    """Sums of an engine that runs for weeks, told in rows like those of bulk runs.

    Where time is paid for, it is the time in which somebody waited: an idle service costs its documents nothing.
    """

    def __init__(self, release_id: str, live: LiveAnswers) -> None:
        self._release_id, self._live = release_id, live
        self._recorded = self._told = self._sums(begins=True)

    def begin(self) -> None:
        """Another engine begins to count."""
        self._live.progress = None
        self._recorded = self._told = self._sums(begins=True)

    @property
    def unrecorded(self) -> tuple[TokenUsage, float]:
        """Tokens and seconds that are not on record yet."""
        now, then = self._sums(), self._recorded
        return _less(now.usage, then.usage), now.busy_seconds - then.busy_seconds

    def since_the_last(self, asking: Asking) -> InferenceRun | None:
        """What was done since the last row was stored; None where that is nothing."""
        now, then, progress = self._sums(), self._recorded, self._live.progress
        if progress is None or now.sent == then.sent:
            return None
        self._told = now
        failed, retries = now.failed - then.failed, now.retries - then.retries
        return InferenceRun(
            run_id=asking.run_id,
            release_id=self._release_id,
            started_at=then.at,
            seconds=now.busy_seconds - then.busy_seconds,
            sent=now.sent - then.sent,
            stored=now.stored - then.stored,
            reused=0,
            failed=failed.total(),
            retries=retries.total(),
            usage=_less(now.usage, then.usage),
            wasted_tokens=now.wasted_tokens - then.wasted_tokens,
            endpoints=tuple(endpoint.base_url for endpoint in progress.endpoints),
            latency_p50_seconds=progress.latency_p50_seconds,
            latency_p95_seconds=progress.latency_p95_seconds,
            latency_p99_seconds=progress.latency_p99_seconds,
            limits={endpoint.base_url: endpoint.limit for endpoint in progress.endpoints},
            idle_share=progress.idle_share,
            causes={**failed, **{f"retry_{cause}": count for cause, count in retries.items()}},
            git_commit=asking.git_commit,
        )

    def is_stored(self) -> None:
        """The row that was made last is on record."""
        self._recorded = self._told

    def _sums(self, *, begins: bool = False) -> _Sums:
        progress, busy = self._live.progress, self._live.busy_seconds
        if progress is None or begins:
            return _Sums(datetime.now(UTC), busy)
        return _Sums(
            datetime.now(UTC),
            busy,
            sent=progress.sent,
            stored=progress.stored,
            wasted_tokens=progress.wasted_tokens,
            usage=progress.usage,
            failed=Counter(progress.failed),
            retries=Counter(progress.retries),
        )


def _less(usage: TokenUsage, before: TokenUsage) -> TokenUsage:
    return TokenUsage(**{name: getattr(usage, name) - getattr(before, name) for name in TokenUsage.model_fields})
