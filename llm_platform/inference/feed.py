"""Where the engine gets its next request, without holding more of them than it must."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from llm_platform.errors import RequestRejected
from llm_platform.inference.answers import ReadAnswer
from llm_platform.inference.outbox import Outbox
from llm_platform.inference.requests import PreparedRequest, PromptToSend, RequestBuilder
from llm_platform.inference.threads import step_aside
from llm_platform.records import CompletionStatus, DocumentRow

Item = TypeVar("Item")

# Large enough that the hand-over between threads costs nothing (at 32 rows, 0.02 ms a row), small enough for memory.
_CHUNK_ROWS = 256
# To lease and read further documents takes a quarter of a second; so much is ready meanwhile, at 5,000 a second.
_CHUNKS_AHEAD = 8
# What others may take as well is asked for when it is needed: with so many rows left, or those of a second.
_LEAST_ROWS_LEFT = 64
_LOOK_SECONDS = 0.02


Left = Callable[[Sequence[DocumentRow]], Sequence[DocumentRow]]


class Feed(Protocol):
    """Gives requests one at a time, never waiting."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; `wake` is called when `take` may give something after it gave nothing."""

    def take(self) -> PreparedRequest | None:
        """The next request, or None if there is none now."""

    def close(self) -> None:
        """Take nothing more."""


class IterableFeed:
    """Requests of an ordinary iterable, taken as they are sent."""

    def __init__(self, requests: Iterable[PreparedRequest]) -> None:
        self._iterator: Iterator[PreparedRequest] = iter(requests)
        self.exhausted = False

    def start(self, wake: Callable[[], None]) -> None:
        """Nothing to begin."""

    def take(self) -> PreparedRequest | None:
        """The next request."""
        request = None if self.exhausted else next(self._iterator, None)
        self.exhausted = request is None
        return request

    def close(self) -> None:
        """Take nothing more."""
        self.exhausted = True


class ReadAhead(Generic[Item]):
    """Items of an asynchronous iterable, read a little ahead by a task of its own."""

    def __init__(self, items: AsyncIterable[Item], *, ahead: int) -> None:
        self._items = items
        self._ready: deque[Item] = deque()
        self._ahead = ahead
        self._room = asyncio.Event()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._wake: Callable[[], None] = lambda: None

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""
        return self._ended and not self._ready

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to read."""
        self._wake = wake
        self._task = asyncio.create_task(self._read())

    def take(self) -> Item | None:
        """The next item; raises what the iterable raised."""
        if self._ready:
            self._room.set()
            return self._ready.popleft()
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        return None

    def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
        self._ready.clear()
        self._ended = True

    async def _read(self) -> None:
        try:
            async for item in self._items:
                self._ready.append(item)
                if len(self._ready) == 1:
                    self._wake()
                while len(self._ready) >= self._ahead:
                    self._room.clear()
                    await self._room.wait()
            self._ended = True
        finally:
            # After this iteration of the loop, so that `take` finds the task done and raises what it raised.
            asyncio.get_running_loop().call_soon(self._wake)


@dataclass(slots=True)
class _Unsendable:
    request: PreparedRequest
    reason: str


def _close(iterator: Iterator[object]) -> None:
    if isinstance(iterator, Generator):
        iterator.close()


class RowFeed:
    """Documents in batches, read and rendered a little ahead in a thread of their own.

    Rendering may block, for example to count tokens: in the event loop it would hold up every request in flight. The
    next batch is asked for when the last one is nearly used up: to ask may mean to take it from others.

    Args:
        left: Gives those of some rows that nobody else has answered since they were read.
    """

    def __init__(
        self,
        batches: Iterable[Sequence[DocumentRow]],
        *,
        render: Callable[[DocumentRow], PromptToSend | None],
        builder: RequestBuilder,
        outbox: Outbox,
        left: Left = lambda rows: rows,
    ) -> None:
        # One thread for all batches: a database cursor belongs to the thread that uses it.
        self._reader = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="llm-platform-documents", initializer=step_aside
        )
        self._batches = iter(batches)
        self._chunks = ReadAhead(self._read(self._batches), ahead=_CHUNKS_AHEAD)
        self._ready: Iterator[PreparedRequest | _Unsendable] = iter(())
        self._used_up = True
        self._prepared_rows = self._taken_rows = 0
        self._started = time.monotonic()
        self._render, self._builder, self._outbox, self._left = render, builder, outbox, left

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""
        return self._used_up and self._chunks.exhausted

    def start(self, wake: Callable[[], None]) -> None:
        """Read the first batch."""
        self._started = time.monotonic()
        self._chunks.start(wake)

    def take(self) -> PreparedRequest | None:
        """The next document that can be sent; others are stored as refused."""
        while True:
            item = next(self._ready, None)
            self._used_up = item is None
            self._taken_rows += item is not None
            if isinstance(item, PreparedRequest):
                return item
            if item is not None:
                self._outbox.add(item.request, ReadAnswer(CompletionStatus.REJECTED, reason=item.reason), attempts=0)
                continue
            chunk = self._chunks.take()
            if chunk is None:
                return None
            self._ready, self._used_up = iter(chunk), False

    def close(self) -> None:
        """Read nothing more."""
        self._ready, self._used_up = iter(()), True
        self._chunks.close()
        # In its own thread, after what runs there: a generator that is left open keeps its cursor, and that the lake.
        self._reader.submit(_close, self._batches)
        self._reader.shutdown(wait=False)

    async def _read(
        self, batches: Iterator[Sequence[DocumentRow]]
    ) -> AsyncIterator[list[PreparedRequest | _Unsendable]]:
        loop = asyncio.get_running_loop()
        while (batch := await loop.run_in_executor(self._reader, next, batches, None)) is not None:
            start = 0
            while start < len(batch):
                # Where sending is slow, few at once: others may answer meanwhile what is made ready.
                rows = batch[start : start + min(_CHUNK_ROWS, round(self._rows_of_a_second()))]
                start += len(rows)
                chunk = await loop.run_in_executor(self._reader, self._prepare, rows)
                self._prepared_rows += len(chunk)
                yield chunk
                while self._prepared_rows - self._taken_rows > self._rows_of_a_second():
                    await asyncio.sleep(_LOOK_SECONDS)

    def _rows_of_a_second(self) -> float:
        return max(_LEAST_ROWS_LEFT, self._taken_rows / max(time.monotonic() - self._started, 1.0))

    def _prepare(self, rows: Sequence[DocumentRow]) -> list[PreparedRequest | _Unsendable]:
        return [prepared for row in self._left(rows) if (prepared := self._prepared(row)) is not None]

    def _prepared(self, row: DocumentRow) -> PreparedRequest | _Unsendable | None:
        try:
            rendered = self._render(row)
            if rendered is None:
                return None
            return self._builder.prepare(
                document_id=row.document_id, fingerprint=row.fingerprint, rendered=rendered, prefix=row.prefix
            )
        except RequestRejected as error:
            unsent = PreparedRequest(row.document_id, row.fingerprint, self._builder.path, b"")
            return _Unsendable(unsent, str(error))
