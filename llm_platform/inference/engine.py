"""One bulk run, from document rows to stored answers: what an asset calls."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from llm_platform.inference.core import EngineResult, complete
from llm_platform.inference.feed import Left, RowFeed
from llm_platform.inference.meter import Progress
from llm_platform.inference.outbox import Origin
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import PromptToSend, RequestBuilder
from llm_platform.inference.sink import OnLines
from llm_platform.inference.supervision import Discover
from llm_platform.inference.wire import Wire
from llm_platform.inference.wire_http import HttpWire
from llm_platform.inference.wire_rust import RustWire
from llm_platform.records import DocumentRow, InferenceRun, Release
from llm_platform.settings.connection import Connection

__all__ = ["EndpointTarget", "EnginePolicy", "Progress", "run_completions"]

WireFactory = Callable[[Connection, EnginePolicy], Wire]


def default_wire(connection: Connection, policy: EnginePolicy) -> Wire:
    """The lean client; the Rust one where a proxy stands between."""
    if connection.environment_proxies:
        return RustWire(connection, timeout_seconds=policy.request_timeout_seconds)
    return HttpWire(connection)


def run_completions(
    release: Release,
    render: Callable[[DocumentRow], PromptToSend | None],
    rows: Iterable[Sequence[DocumentRow]],
    sink: OnLines,
    *,
    constraint: Mapping[str, Any],
    endpoints: Sequence[EndpointTarget],
    policy: EnginePolicy | None = None,
    connection: Connection | None = None,
    run_id: str = "",
    documents_snapshot: int | None = None,
    total: Callable[[], int] | int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_finish: Callable[[InferenceRun], None] | None = None,
    discover: Discover | None = None,
    has_answers: Callable[[], bool] = lambda: False,
    wire: WireFactory = default_wire,
    left: Left = lambda rows: rows,
) -> InferenceRun:
    """Answer documents and store the answers.

    The engine runs in a thread of its own. An interrupt or a termination in this one ends the run in order: what is in
    flight is waited for a few seconds, everything that came back is stored, then the interrupt goes on.

    Args:
        render: Fills a document into the release's prompt; raises RequestRejected for one that must not be sent, and
            gives None for one that this run leaves alone.
        rows: Batches of documents; read and rendered a little ahead, in one thread of their own.
        sink: Stores a batch of answers, each as its JSON; called in a thread of its own.
        constraint: Request fields that constrain the answer; see `llm_platform.nim.dialects.constraint`.
        discover: Asked now and then for the endpoints there are, so that they may join and leave; called in a thread.
        has_answers: Whether the release has answers from before; called in a thread, and only when that is in question.
        total: Documents there are, for the time left; a function where that may change.
        left: Gives those of some rows that nobody else has answered since they were read; called in the thread that
            renders them, shortly before they are sent.
        on_progress: Called in this thread.
        on_finish: Called in this thread with the account of the run, also when the run is about to raise.

    Raises:
        EndpointUnavailable: no endpoint came back in time.
        EndpointMismatch: an endpoint refuses all requests.
        PermanentError: too many documents have no valid answer.
        StorageError: the sink failed.
    """
    policy, connection = policy or EnginePolicy(), connection or Connection()
    builder = RequestBuilder(release, constraint=constraint)
    started_at = datetime.now(UTC)
    stop, events = _Stop(), queue.SimpleQueue[Progress | None]()

    async def run() -> EngineResult:
        client = wire(connection, policy)
        try:
            return await complete(
                lambda outbox: RowFeed(rows, render=render, builder=builder, outbox=outbox, left=left),
                release=release,
                endpoints=endpoints,
                wire=client,
                policy=policy,
                on_lines=sink,
                on_progress=events.put if on_progress is not None else None,
                stop=stop.listen(),
                total=total,
                origin=Origin(run_id, documents_snapshot),
                discover=discover,
                has_answers=has_answers,
            )
        finally:
            await client.close()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm-platform-engine") as executor:
        future = executor.submit(lambda: asyncio.run(run()))
        future.add_done_callback(lambda _: events.put(None))
        try:
            while (progress := events.get()) is not None:
                if on_progress is not None:
                    on_progress(progress)
        except BaseException:
            stop.set()
            _report(future, on_finish, release=release, run_id=run_id, started_at=started_at, endpoints=endpoints)
            raise
    run_record = _report(future, on_finish, release=release, run_id=run_id, started_at=started_at, endpoints=endpoints)
    error = future.result().error
    if error is not None:
        raise error
    return run_record


class _Stop:
    """An event of the engine's loop that other threads may set, also before the loop has begun."""

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_set = False

    def listen(self) -> asyncio.Event:
        """The event; called in the loop."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self._is_set:
            self._event.set()
        return self._event

    def set(self) -> None:
        """End the run; called in any thread."""
        self._is_set = True
        if self._loop is not None and self._event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)


def _report(
    future: Future[EngineResult],
    on_finish: Callable[[InferenceRun], None] | None,
    *,
    release: Release,
    run_id: str,
    started_at: datetime,
    endpoints: Sequence[EndpointTarget],
) -> InferenceRun:
    """The account of a run, once its engine has ended."""
    result = future.result()
    meter = result.meter
    record = InferenceRun(
        run_id=run_id,
        release_id=release.release_id,
        started_at=started_at,
        seconds=result.seconds,
        sent=meter.sent,
        stored=result.stored,
        reused=0,
        failed=meter.failures,
        retries=meter.retries.total(),
        usage=meter.usage,
        wasted_tokens=meter.wasted_tokens,
        presumed_tokens=result.presumed_tokens,
        waited_seconds=result.waited_seconds,
        concurrency=result.concurrency,
        endpoints=tuple(endpoint.root for endpoint in endpoints),
        latency_p50_seconds=meter.latency.percentile(0.5),
        latency_p95_seconds=meter.latency.percentile(0.95),
        latency_p99_seconds=meter.latency.percentile(0.99),
        limits={endpoint.base_url: endpoint.limit for endpoint in result.endpoints},
        idle_share=_mean([one.idle_share for one in result.endpoints if one.idle_share is not None]),
        causes=_causes(result),
    )
    if on_finish is not None:
        on_finish(record)
    return record


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _causes(result: EngineResult) -> dict[str, int]:
    """Why rows have no valid answer, why requests were repeated (`retry_…`), and what stopped the run (`stopped_…`)."""
    retries = {f"retry_{cause}": count for cause, count in result.meter.retries.items()}
    stopped = {f"stopped_{result.stopped}": 1} if result.stopped else {}
    return {**result.meter.failed, **retries, **stopped}
