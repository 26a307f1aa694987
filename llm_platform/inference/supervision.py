"""What is watched while a run goes on: limits, deadlines, the sink, and what people see of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llm_platform.errors import EndpointUnavailable, PermanentError, TransientError
from llm_platform.inference.allowance import Allowance
from llm_platform.inference.endpoint import Breaker, EndpointState
from llm_platform.inference.meter import Meter, Progress, Rate
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.session import SendingSession
from llm_platform.inference.sink import SinkWriter
from llm_platform.inference.wire import Wire

_TICK_SECONDS = 0.025
# While the limit doubles from look to look, each look too late is a queue that has to drain.
_SEARCHING_SHARE = 0.4

Discover = Callable[[], Sequence[EndpointTarget]]


@dataclass
class Supervision:
    """Looks at a session many times a second.

    Attributes:
        total: Rows there are, where known; a function where that may change.
        discover: Gives the endpoints there are now; called in a thread.
        stop: Set by whoever wants the run to end.
        stopped_by: The budget that was used up, if one was.
    """

    session: SendingSession
    wire: Wire
    outbox: Outbox
    writer: SinkWriter
    meter: Meter
    policy: EnginePolicy
    allowance: Allowance
    stop: asyncio.Event
    total: Callable[[], int] | int | None = None
    on_progress: Callable[[Progress], None] | None = None
    discover: Discover | None = None
    stopped_by: str | None = None
    started: float = field(default_factory=time.monotonic)
    _waited_seconds: float = 0.0
    _away_since: float | None = None
    _rows: Rate = field(default_factory=Rate)
    _tokens: Rate = field(default_factory=Rate)

    def start(self) -> None:
        """Begin; everything ends with the session."""
        self.session.spawn(self._watch())
        for endpoint in self.session.endpoints:
            self.session.spawn(self._follow(endpoint))
        if self.discover is not None:
            self.session.spawn(self._discover(self.discover))

    def waited_seconds(self, now: float) -> float:
        """Time in which there was no endpoint to ask: neither speed nor cost."""
        return self._waited_seconds + (now - self._away_since if self._away_since is not None else 0.0)

    def progress(self) -> Progress:
        """The run as it is now."""
        now, meter, usage = time.monotonic(), self.meter, self.meter.usage
        rows_per_second = self._rows.update(now, meter.done)
        total = self.total_rows()
        left = None if total is None or rows_per_second <= 0 else (total - meter.done) / rows_per_second
        return Progress(
            done=meter.done,
            total=total,
            sent=meter.sent,
            stored=self.writer.stored,
            failed=dict(meter.failed),
            retries=dict(meter.retries),
            usage=usage,
            tokens_per_second=self._tokens.update(now, usage.total),
            in_flight=sum(endpoint.in_flight for endpoint in self.session.endpoints),
            limit=sum(endpoint.limit.value for endpoint in self.session.endpoints),
            latency_p50_seconds=meter.latency.percentile(0.5),
            latency_p95_seconds=meter.latency.percentile(0.95),
            latency_p99_seconds=meter.latency.percentile(0.99),
            wasted_tokens=meter.wasted_tokens,
            seconds=now - self.started,
            seconds_left=left,
            endpoints=tuple(endpoint.progress() for endpoint in self.session.endpoints),
        )

    async def _watch(self) -> None:
        shown_at = self.started
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            self.outbox.flush_old(now)
            self._check(now)
            self.session.pump()
            if self.on_progress is not None and now - shown_at >= self.policy.progress_seconds:
                shown_at = now
                self.on_progress(self.progress())

    def _check(self, now: float) -> None:
        if (failure := self.writer.failure()) is not None:
            self.session.fail(failure)
        if self.stop.is_set():
            self.session.end()
        self._note_absence(now)
        self.allowance.active_seconds = now - self.started - self.waited_seconds(now)
        if self.allowance.used_up is not None:
            self._stop_for(self.allowance.used_up)
        limit = self.policy.budget_seconds
        if limit is not None and self.allowance.active_seconds >= limit:
            self._stop_for("budget_seconds")
        self._look_for_life(now)
        judged = self.meter.done >= self.policy.failed_share_after
        if judged and self.meter.failures > self.policy.max_failed_share * self.meter.done:
            self.session.fail(self._too_many_failed())

    def _note_absence(self, now: float) -> None:
        """Count the time since the last sign of life of any endpoint, once all of them are known to be away."""
        away = all(endpoint.breaker is Breaker.OPEN for endpoint in self.session.endpoints)
        if away and self._away_since is None:
            seen = max((endpoint.answered_at for endpoint in self.session.endpoints), default=0.0)
            self._away_since = max(seen, self.started)
        elif not away and self._away_since is not None:
            self._waited_seconds += now - self._away_since
            self._away_since = None

    def _look_for_life(self, now: float) -> None:
        """Ask what has been silent for long; end the run when all of them have been, for too long.

        One that still answers what needs no model gets more time: its model may be slow, with others' requests before
        ours. Bytes are no sign of life: an endpoint that sends one now and then, and no answer, holds a run as long as
        one that sends none.
        """
        session, policy = self.session, self.policy
        for endpoint in session.endpoints:
            if not endpoint.in_flight and not session.triage.troubled and endpoint.breaker is Breaker.CLOSED:
                endpoint.quiet_since = now
            silent_seconds = now - endpoint.heard_at
            if silent_seconds > policy.silence_seconds and not endpoint.leaving:
                session.suspect(endpoint)
            if silent_seconds > endpoint.patience_seconds(now) and endpoint.in_flight:
                # Others may be there for what it holds.
                self.wire.abandon(endpoint.url)
        # Only who was asked and said nothing: this process may have been silent itself.
        away = [
            now - one.heard_at
            for one in session.endpoints
            if one.breaker in (Breaker.OPEN, Breaker.RESTING) and now - one.heard_at > one.patience_seconds(now)
        ]
        if away and len(away) == len(session.endpoints):
            session.fail(self._unavailable(min(away)))

    def total_rows(self) -> int | None:
        """Rows there are, as far as is known now."""
        return self.total() if callable(self.total) else self.total

    def _stop_for(self, reason: str) -> None:
        if not self.stop.is_set():
            self.stopped_by = reason
            self.stop.set()
            self.session.end()

    async def _follow(self, endpoint: EndpointState) -> None:
        """Keep the limit of one endpoint where its own numbers say it belongs."""
        target = endpoint.target
        readable = target.metrics_path is not None and target.read_metrics is not None
        while endpoint in self.session.endpoints:
            gauges = None
            if readable and endpoint.breaker is Breaker.CLOSED and not endpoint.limit.fixed:
                reply = await self.wire.get(f"{endpoint.url}{target.metrics_path}", timeout_seconds=2.0)
                if reply.status == 200 and target.read_metrics is not None:
                    gauges = target.read_metrics(reply.body)
            endpoint.look(time.monotonic(), gauges)
            self.session.pump()
            searching = readable and endpoint.limit.is_searching
            await asyncio.sleep(self.policy.poll_seconds * (_SEARCHING_SHARE if searching else 1.0))

    async def _discover(self, discover: Discover) -> None:
        """Let endpoints join and leave."""
        while True:
            await asyncio.sleep(self.policy.discover_seconds)
            try:
                targets = await asyncio.to_thread(discover)
            except TransientError:
                # A name server that does not answer says nothing about the endpoints.
                targets = []
            if targets:
                for endpoint in self.session.update_endpoints(targets):
                    self.session.spawn(self._follow(endpoint))

    def _unavailable(self, seconds: float) -> EndpointUnavailable:
        each = "; ".join(f"{one.url}: {one.last_error or 'no reply'}" for one in self.session.endpoints)
        return EndpointUnavailable(
            f"No endpoint has answered a document, or a probe, for {seconds:.0f} s ({each}). Bring an endpoint back "
            "and run again: only the missing ones are sent. LLM_PLATFORM_OUTAGE_SECONDS says how long a run waits."
        )

    def _too_many_failed(self) -> PermanentError:
        meter = self.meter
        causes = ", ".join(f"{cause} {count}" for cause, count in meter.failed.most_common())
        return PermanentError(
            f"{meter.failures} of the first {meter.done} documents have no valid answer, more than the share of "
            f"{self.policy.max_failed_share:g} that 'max_failed_share' allows ({causes}). The rest was not sent. Look "
            "at the reasons in the table of completions, then change the prompt, the model or the limit."
        )
