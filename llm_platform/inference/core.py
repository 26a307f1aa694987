"""The bulk engine inside an event loop: requests in, finished rows out, nothing lost in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, PlatformError
from llm_platform.inference.allowance import Allowance
from llm_platform.inference.answers import AnswerReader
from llm_platform.inference.feed import Feed, IterableFeed, ReadAhead
from llm_platform.inference.meter import EndpointProgress, Meter, Progress
from llm_platform.inference.outbox import Origin, Outbox
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import PreparedRequest, probe_of
from llm_platform.inference.session import SendingSession
from llm_platform.inference.sink import OnLines, SinkWriter
from llm_platform.inference.supervision import Discover, Supervision
from llm_platform.inference.wire import Wire
from llm_platform.records import Release


@dataclass(frozen=True)
class EngineResult:
    """What a run did.

    Attributes:
        concurrency: Most requests that were in flight at once.
        endpoints: Each as it was at the end.
        seconds: While an endpoint was there to be asked.
        waited_seconds: While none was.
        presumed_tokens: Paid, as far as is known, for requests whose replies do not say what they took.
        stopped: Why it stopped in order before its end: `asked`, or the budget that was used up; None if it did not.
        error: What ended it before its end; everything that had come back until then is stored.
    """

    meter: Meter
    stored: int
    seconds: float
    concurrency: int
    endpoints: tuple[EndpointProgress, ...]
    stopped: str | None
    waited_seconds: float
    presumed_tokens: int
    error: PlatformError | None


async def complete(
    requests: Iterable[PreparedRequest] | AsyncIterable[PreparedRequest] | Callable[[Outbox], Feed],
    *,
    release: Release,
    endpoints: Sequence[EndpointTarget],
    wire: Wire,
    policy: EnginePolicy,
    on_lines: OnLines,
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    total: Callable[[], int] | int | None = None,
    origin: Origin | None = None,
    discover: Discover | None = None,
    has_answers: Callable[[], bool] = lambda: False,
) -> EngineResult:
    """Send requests and hand over their answers.

    Args:
        requests: Taken one by one as there is room to send them.
        release: Decides how replies are read and what is written on each row.
        on_lines: Called from one thread of its own with batches of finished rows.
        on_progress: Called in the event loop, about once a second.
        discover: Asked now and then for the endpoints there are, so that they may join and leave.
        has_answers: Whether the release has answers from before: then what is refused now is not refused to all. Called
            in a thread, and only when that is in question.
        stop: When set, nothing more is sent, and what is in flight is waited for as long as `policy.drain_seconds`.

    Returns:
        What was done; a run that ended early says why in `error` instead of raising, since most of it may have
        succeeded.
    """
    meter, stop, allowance = Meter(), stop or asyncio.Event(), Allowance(policy, release)
    writer = SinkWriter(on_lines, timeout_seconds=policy.sink_timeout_seconds, steps_aside=policy.sink_steps_aside)
    outbox = Outbox(writer, release=release, origin=origin or Origin(), meter=meter, policy=policy)
    session = SendingSession(
        _feed(requests, outbox),
        targets=endpoints,
        wire=wire,
        reader=AnswerReader(release),
        outbox=outbox,
        meter=meter,
        policy=policy,
        allowance=allowance,
        probe=probe_of(release),
        has_answers=has_answers,
    )
    supervision = Supervision(
        session, wire, outbox, writer, meter, policy, allowance, stop, total, on_progress, discover
    )
    supervision.start()
    try:
        await session.run()
    finally:
        await asyncio.to_thread(writer.close)
    now = time.monotonic()
    waited_seconds = supervision.waited_seconds(now)
    error = session.error or writer.failure()
    if error is not None and not isinstance(error, PlatformError):
        raise error
    ended = supervision.progress()
    if on_progress is not None:
        on_progress(ended)
    return EngineResult(
        meter=meter,
        stored=writer.stored,
        seconds=now - supervision.started - waited_seconds,
        concurrency=session.peak_workers,
        endpoints=ended.endpoints,
        stopped=supervision.stopped_by or ("asked" if stop.is_set() else None),
        waited_seconds=waited_seconds,
        presumed_tokens=allowance.presumed_tokens,
        error=_with_account(error, stored=writer.stored, total=supervision.total_rows()),
    )


def _with_account(error: PlatformError | None, *, stored: int, total: int | None) -> PlatformError | None:
    """An error about endpoints, with what the run has all the same; counted when everything is stored."""
    if not isinstance(error, EndpointUnavailable | EndpointMismatch):
        return error
    of = "" if total is None else f" of {total}"
    kept = f"{stored}{of} documents are done and kept." if stored else "Nothing was stored."
    found = type(error)(f"{error} {kept}")
    found.__cause__ = error.__cause__
    return found


def _feed(
    requests: Iterable[PreparedRequest] | AsyncIterable[PreparedRequest] | Callable[[Outbox], Feed], outbox: Outbox
) -> Feed:
    if isinstance(requests, AsyncIterable):
        return ReadAhead(requests, ahead=256)
    if isinstance(requests, Iterable):
        return IterableFeed(requests)
    return requests(outbox)
