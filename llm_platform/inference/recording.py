"""Single requests, recorded below the client that sends them.

An HTTP transport sees every form of the API, streams, retries and whatever framework sits on top of the client; the
caller gets every byte when it arrives, and the record is made when the reply has been read or given up.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2

from llm_platform.inference.replies import ReadReply, read_reply
from llm_platform.records import Call, ModelPin


@dataclass(frozen=True)
class Caller:
    """On whose behalf calls are made; see `records.Call`."""

    name: str
    user: str = ""
    run_id: str = ""
    git_commit: str = ""


class CallRecording:
    """What the requests of one client have in common, and where they are told.

    Args:
        model: What the endpoints have shown to be.
        caller: Written on every call.
        endpoints: Roots without `/v1`; requests go to each in turn. The client's own address is the first.
        log: Takes a finished call; called in the thread that read the reply, so it must be quick.
    """

    def __init__(self, model: ModelPin, caller: Caller, endpoints: Sequence[str], log: Callable[[Call], None]) -> None:
        self._model, self._caller, self._log = model, caller, log
        self._first, self._turns = endpoints[0], itertools.cycle(endpoints)

    def begin(self, request: httpx2.Request) -> Exchange:
        """Send `request` to the next endpoint, and begin its record."""
        endpoint = next(self._turns)
        url = str(request.url)
        if endpoint != self._first and url.startswith(self._first):
            request.url = httpx2.URL(endpoint + url.removeprefix(self._first))
            request.headers["Host"] = request.url.netloc.decode("ascii")
        return Exchange(request, endpoint=endpoint, finish=self._finish)

    def _finish(self, exchange: Exchange) -> None:
        request, reply = exchange.request, exchange.reply()
        if request.method != "POST":
            return  # questions about the endpoint itself
        self._log(
            Call(
                call_id=uuid.uuid4().hex,
                started_at=exchange.started_at,
                latency_seconds=time.monotonic() - exchange.started,
                caller=self._caller.name,
                user=self._caller.user,
                run_id=self._caller.run_id,
                entry=self._model.entry,
                model=self._model,
                endpoint=exchange.endpoint,
                path=str(request.url).removeprefix(exchange.endpoint),
                request=request.content.decode("utf-8", "replace"),
                status=exchange.status,
                answer=reply.answer,
                response=reply.response,
                streamed=exchange.streamed,
                complete=exchange.complete or exchange.said_its_last,
                error=exchange.error,
                finish_reason=reply.finish_reason,
                usage=reply.usage,
                attempt=_attempt(request),
                git_commit=self._caller.git_commit,
            )
        )


class Exchange:
    """One request and what has come back of its reply."""

    def __init__(self, request: httpx2.Request, *, endpoint: str, finish: Callable[[Exchange], None]) -> None:
        self.request, self.endpoint, self._finish = request, endpoint, finish
        self.started, self.started_at = time.monotonic(), datetime.now(UTC)
        self.status, self.complete = 0, False
        self.error: str | None = None
        self._response: httpx2.Response | None = None
        self._chunks: list[bytes] = []
        self._done = False

    @property
    def streamed(self) -> bool:
        """Whether the reply is a stream of events."""
        return self._response is not None and "text/event-stream" in self._response.headers.get("content-type", "")

    @property
    def said_its_last(self) -> bool:
        """Whether a stream has come to its closing event, behind which no client reads."""
        ending = b"".join(self._chunks[-2:])
        return self.streamed and (b"data: [DONE]" in ending or b"event: response.completed" in ending)

    def answered(self, response: httpx2.Response) -> None:
        """The head of the reply is there."""
        self._response, self.status = response, response.status_code

    def received(self, chunk: bytes) -> None:
        """A part of the body is there."""
        self._chunks.append(chunk)

    def failed(self, error: BaseException) -> None:
        """The connection broke, or the caller gave up."""
        self.error = f"{type(error).__name__}: {error}".rstrip(": ")

    def done(self) -> None:
        """Record it; a second call does nothing."""
        if not self._done:
            self._done = True
            self._finish(self)

    def reply(self) -> ReadReply:
        """What came back, read."""
        if self._response is None:
            return ReadReply(response=None)
        # A copy of the head with the whole body decodes what the server compressed.
        whole = httpx2.Response(self.status, headers=self._response.headers, content=b"".join(self._chunks))
        return read_reply(whole.text, streamed=self.streamed)


class RecordingTransport(httpx2.BaseTransport):
    """A transport that records; the requests themselves go through `inner`."""

    def __init__(self, inner: httpx2.BaseTransport, recording: CallRecording) -> None:
        self._inner, self._recording = inner, recording

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        request.read()
        exchange = self._recording.begin(request)
        try:
            response = self._inner.handle_request(request)
        except BaseException as error:
            exchange.failed(error)
            exchange.done()
            raise
        exchange.answered(response)
        return _with_stream(response, _RecordedStream(response, exchange))

    def close(self) -> None:
        """Drop all connections."""
        self._inner.close()


class AsyncRecordingTransport(httpx2.AsyncBaseTransport):
    """The same for an asynchronous client."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, recording: CallRecording) -> None:
        self._inner, self._recording = inner, recording

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        await request.aread()
        exchange = self._recording.begin(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            exchange.failed(error)
            exchange.done()
            raise
        exchange.answered(response)
        return _with_stream(response, _AsyncRecordedStream(response, exchange))

    async def aclose(self) -> None:
        """Drop all connections."""
        await self._inner.aclose()


class _RecordedStream(httpx2.SyncByteStream):
    def __init__(self, response: httpx2.Response, exchange: Exchange) -> None:
        self._stream, self._exchange = response.stream, exchange

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._stream:  # type: ignore[union-attr]
                self._exchange.received(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._exchange.failed(error)
            raise
        self._exchange.complete = True

    def close(self) -> None:
        try:
            self._stream.close()  # type: ignore[union-attr]
        finally:
            self._exchange.done()


class _AsyncRecordedStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, exchange: Exchange) -> None:
        self._stream, self._exchange = response.stream, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:  # type: ignore[union-attr]
                self._exchange.received(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._exchange.failed(error)
            raise
        self._exchange.complete = True

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()  # type: ignore[union-attr]
        finally:
            self._exchange.done()


def _with_stream(response: httpx2.Response, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
    return httpx2.Response(
        response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
    )


def _attempt(request: httpx2.Request) -> int:
    retries = request.headers.get("x-stainless-retry-count", "0")
    return 1 + int(retries) if retries.isdigit() else 1
