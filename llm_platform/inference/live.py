"""Single requests through the engine of bulk runs, each with a reply of its own that is safe before it is given.

The engine is the same, so limits, outages, repairs and refusals are decided alike. What differs is where requests come
from, and that somebody waits: a row is handed to the sink at once, and its answer to who waits when the sink has it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llm_platform.errors import EndpointUnavailable, PlatformError, TransientError
from llm_platform.inference.answers import ReadAnswer
from llm_platform.inference.core import EngineResult, complete
from llm_platform.inference.meter import Progress, Rate
from llm_platform.inference.outbox import Origin, Outbox
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import PreparedRequest
from llm_platform.inference.sink import OnLines
from llm_platform.inference.supervision import Discover
from llm_platform.inference.wire import Wire
from llm_platform.records import Completion, CompletionStatus, Release, from_json_lines

AWAY_SECONDS = 0.3
"""An endpoint that is only asked whether it is alive answers within this, or callers are told."""


def live_policy(policy: EnginePolicy) -> EnginePolicy:
    """The same for requests that somebody waits for: handed over at once, and an outage is seen at the second failure.

    A share of failed answers ends no service: each caller sees its own.
    """
    return replace(
        policy,
        batch_rows=1,
        sink_steps_aside=False,
        progress_seconds=0.1,
        breaker_failures=min(policy.breaker_failures, 2),
        backoff_seconds=min(policy.backoff_seconds, 0.2),
        max_failed_share=1.0,
        discover_seconds=max(policy.discover_seconds, 30.0),
        drain_seconds=max(policy.drain_seconds, 10.0),
    )


class Withdrawn(TransientError):
    """Nobody waits for a request any more, and it was not sent."""


@dataclass(slots=True, eq=False)
class _Asked:
    """One request, and who waits for it.

    Attributes:
        until: When the last one who waits stops waiting.
    """

    request: PreparedRequest
    answer: asyncio.Future[Completion]
    until: float


@dataclass
class LiveAnswers:
    """Answers of one release to requests that come one by one.

    Attributes:
        progress: Of the engine, a tenth of a second old at most; None before it runs.
        away_since: When the last endpoint was seen to be away; None while one is there.
        busy_seconds: Time in which somebody waited for an answer: what a service costs where time is paid for.
    """

    release: Release
    policy: EnginePolicy
    sink: OnLines
    run_id: str
    on_answer: Callable[[Completion], None] = lambda _: None
    progress: Progress | None = None
    away_since: float | None = None
    busy_seconds: float = 0.0
    _busy_since: float | None = None
    _queue: deque[_Asked] = field(default_factory=deque)
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _wake: Callable[[], None] = lambda: None
    _loop: asyncio.AbstractEventLoop | None = None
    _done: Rate = field(default_factory=lambda: Rate(window_seconds=5.0))
    _finished: int = 0
    _rate: float = 0.0
    _outbox: Outbox | None = None
    _is_running: bool = False

    @property
    def queued(self) -> int:
        """Requests that wait to be sent."""
        return len(self._queue)

    @property
    def open(self) -> int:
        """Requests without an answer yet."""
        return len(self._asked)

    @property
    def is_away(self) -> bool:
        """Whether no endpoint answers now."""
        since = self.away_since
        return not self._is_running or (since is not None and time.monotonic() - since >= AWAY_SECONDS)

    @property
    def wait_seconds(self) -> float | None:
        """How long what comes now will wait before it is sent; None while nothing is known of the pace."""
        if not self._queue:
            return 0.0
        return len(self._queue) / self._rate if self._rate > 0 else None

    async def run(
        self,
        targets: tuple[EndpointTarget, ...],
        wire: Wire,
        *,
        stop: asyncio.Event,
        discover: Discover | None,
        has_answers: Callable[[], bool],
    ) -> EngineResult:
        """Answer until `stop` is set or the engine ends; whoever waits then is told why."""
        self._loop = asyncio.get_running_loop()
        self.away_since = None
        error: PlatformError | None = None
        try:
            self._is_running = True
            result = await complete(
                self._feed,
                release=self.release,
                endpoints=targets,
                wire=wire,
                policy=self.policy,
                on_lines=self._keep,
                on_progress=self._look,
                stop=stop,
                origin=Origin(self.run_id),
                discover=discover,
                has_answers=has_answers,
            )
            error = result.error
            return result
        finally:
            self._is_running = False
            self._tell_all(error or EndpointUnavailable("The service stops answering for this release."))

    def find(self, fingerprint: str) -> asyncio.Future[Completion] | None:
        """The answer that somebody else is waiting for already."""
        asked = self._asked.get(fingerprint)
        return None if asked is None else asked.answer

    def ask(self, request: PreparedRequest, *, until: float) -> asyncio.Future[Completion]:
        """Have a request sent; requests about one text are one, whose answer all of them get.

        Args:
            until: When, on the monotonic clock, nobody waits for it any more: what was not sent by then never is.

        Raises:
            EndpointUnavailable: no endpoint answers now.
        """
        asked = self._asked.get(request.fingerprint)
        if asked is not None:
            asked.until = max(asked.until, until)
            return asked.answer
        self._require_endpoint()
        asked = _Asked(request, asyncio.get_running_loop().create_future(), until)
        # Who waits may have left before the answer, or its failure, comes.
        asked.answer.add_done_callback(_seen)
        self._note(asked)
        self._queue.append(asked)
        self._wake()
        return asked.answer

    def refuse(self, request: PreparedRequest, reason: str) -> asyncio.Future[Completion]:
        """Store that a document cannot be sent, as a bulk run does.

        Raises:
            EndpointUnavailable: the engine does not run now.
        """
        self._require_endpoint()
        assert self._outbox is not None  # it runs
        asked = _Asked(request, asyncio.get_running_loop().create_future(), time.monotonic())
        asked.answer.add_done_callback(_seen)
        self._note(asked)
        self._outbox.add(request, ReadAnswer(CompletionStatus.REJECTED, reason=reason), attempts=0)
        return asked.answer

    def _note(self, asked: _Asked) -> None:
        if self._busy_since is None:
            self._busy_since = time.monotonic()
        self._asked[asked.request.fingerprint] = asked

    def _rest(self) -> None:
        if not self._asked and self._busy_since is not None:
            self.busy_seconds += time.monotonic() - self._busy_since
            self._busy_since = None

    def _require_endpoint(self) -> None:
        if self.is_away:
            raise EndpointUnavailable("The model does not answer now.")

    def _feed(self, outbox: Outbox) -> _LiveFeed:
        self._outbox = outbox
        return _LiveFeed(self)

    def take(self) -> PreparedRequest | None:
        """The next request that somebody waits for; for the feed."""
        now = time.monotonic()
        while self._queue:
            asked = self._queue.popleft()
            if asked.until >= now:
                return asked.request
            self._asked.pop(asked.request.fingerprint, None)
            self._rest()
            _fail(asked, Withdrawn("The deadline passed before it was sent."))
        return None

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when something can be taken; for the feed."""
        self._wake = wake

    def _keep(self, lines: list[bytes]) -> None:
        """In the sink's thread: make rows safe, then tell who waits for them."""
        self.sink(lines)
        rows = from_json_lines(Completion, lines)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._settle, rows)

    def _settle(self, rows: list[Completion]) -> None:
        for row in rows:
            self._finished += 1
            self.on_answer(row)
            asked = self._asked.pop(row.fingerprint, None)
            if asked is not None and not asked.answer.done():
                asked.answer.set_result(row)
        self._rest()

    def _look(self, progress: Progress) -> None:
        self.progress = progress
        now = time.monotonic()
        self._rate = self._done.update(now, self._finished)
        if any(endpoint.available for endpoint in progress.endpoints):
            self.away_since = None
        else:
            self.away_since = self.away_since or now
            if self.is_away:
                self._tell_all(EndpointUnavailable("The model does not answer now."))

    def _tell_all(self, error: PlatformError) -> None:
        """What was sent may still come back, and is stored then."""
        self._queue.clear()
        asked, self._asked = self._asked, {}
        for one in asked.values():
            _fail(one, error)
        self._rest()


class _LiveFeed:
    """The queue as the engine's feed; it has no end of its own."""

    exhausted = False

    def __init__(self, live: LiveAnswers) -> None:
        self._live = live

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        self._live.listen(wake)

    def take(self) -> PreparedRequest | None:
        """The next request."""
        return self._live.take()

    def close(self) -> None:
        """Take nothing more."""
        self._live.listen(lambda: None)


def _fail(asked: _Asked, error: PlatformError) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)


def _seen(answer: asyncio.Future[Completion]) -> None:
    if not answer.cancelled():
        answer.exception()
