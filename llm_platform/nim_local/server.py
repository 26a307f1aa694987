"""The HTTP surface: routes, headers, streams, and what happens when a client goes away."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_platform.nim_local import protocol, requests
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.generation import Job, Outcome, Piece
from llm_platform.nim_local.metrics import Metrics
from llm_platform.nim_local.service import Service, answer_for

Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]

# nginx's word for a client that left before the answer; nobody reads it, the metrics count it.
_CLIENT_GONE = 499
# Probes and scrapes come by themselves and must not keep an idle server alive.
_NOT_USE = ("/v1/health/", "/v1/metrics")


@dataclass
class Nim:
    """The state of one server: loading, ready or draining."""

    config: EmbeddedConfig
    metrics: Metrics = field(init=False)
    engine: Engine | None = None
    service: Service | None = None
    last_use: float = field(default_factory=time.monotonic)
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.config.model_id, slots=self.config.slots, context_length=self.config.context_length)

    def ready_with(self, engine: Engine) -> None:
        """The engine is loaded; called in the event loop."""
        self.engine = engine
        self.service = Service(engine, self.metrics)

    def close(self) -> None:
        """Release the engine."""
        if self.service is not None:
            self.service.close()
        self.service = self.engine = None

    def idle_seconds(self) -> float:
        """How long nobody has used the server."""
        return 0.0 if self.in_flight else time.monotonic() - self.last_use


def create_app(nim: Nim) -> ASGIApp:
    """The NIM as an ASGI application."""
    endpoints, config, paths = _Endpoints(nim), nim.config, dict[str, list[str]]()
    bodies: dict[str, Callable[[], protocol.Body]] = {
        "/v1/health/live": lambda: protocol.health("live"),
        "/v1/health/ready": endpoints.ready,
        "/v1/models": lambda: protocol.models(config, now=int(time.time())),
        "/v1/metadata": lambda: protocol.metadata(config),
        "/v1/version": lambda: protocol.release(config),
        "/v1/license": lambda: protocol.licence(config),
        "/v1/manifest": lambda: protocol.manifest(config),
        "/openapi.json": lambda: protocol.openapi(config, paths),
    }
    handlers: dict[str, Handler] = {
        "/v1/chat/completions": endpoints.chat,
        "/v1/completions": endpoints.completion,
        "/tokenize": endpoints.tokenize,
        "/detokenize": endpoints.detokenize,
    }
    routes = [
        *(Route(path, endpoints.fixed(make), methods=["GET"]) for path, make in bodies.items()),
        Route("/v1/metrics", endpoints.metrics, methods=["GET"]),
        *(Route(path, handler, methods=["POST"]) for path, handler in handlers.items()),
    ]
    paths.update({route.path: sorted(route.methods or ()) for route in routes})
    errors: dict[Any, Any] = {
        protocol.ApiError: _api_error,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
        Exception: _crash,
    }
    return _Frame(Starlette(routes=routes, exception_handlers=errors), nim, frozenset(paths))


class _Frame:
    """Around every request: count it, note the time, echo its `X-Request-Id`."""

    def __init__(self, app: ASGIApp, nim: Nim, paths: frozenset[str]) -> None:
        self._app = app
        self._nim = nim
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        in_use = not path.startswith(_NOT_USE)
        request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)

        async def framed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._nim.metrics.served(path if path in self._paths else "other", message["status"])
                if request_id is not None:
                    message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        self._nim.in_flight += in_use
        try:
            await self._app(scope, receive, framed_send)
        finally:
            self._nim.in_flight -= in_use
            if in_use:
                self._nim.last_use = time.monotonic()


class _Endpoints:
    """One method per route."""

    def __init__(self, nim: Nim) -> None:
        self._nim = nim

    def fixed(self, make: Callable[[], protocol.Body]) -> Handler:
        """A handler whose body does not depend on the request."""

        async def answer(_: Request) -> Response:
            return _json(make())

        return answer

    def ready(self) -> protocol.Body:
        self._loaded()
        return protocol.health("ready")

    async def metrics(self, _: Request) -> Response:
        return Response(self._nim.metrics.text(), headers={"content-type": protocol.METRICS_CONTENT_TYPE})

    async def chat(self, request: Request) -> Response:
        return await self._generate(request, requests.ChatRequest)

    async def completion(self, request: Request) -> Response:
        return await self._generate(request, requests.CompletionRequest)

    async def tokenize(self, request: Request) -> Response:
        service, _ = self._loaded()
        asked = await self._read(request, requests.TokenizeRequest)
        tokens = await service.tokenize(asked)
        strings = service.token_strings(tokens) if asked.return_token_strs else None
        return _json(protocol.tokenized(tokens, context_length=self._nim.config.context_length, strings=strings))

    async def detokenize(self, request: Request) -> Response:
        service, _ = self._loaded()
        asked = await self._read(request, requests.DetokenizeRequest)
        return _json(protocol.detokenized(await service.detokenize(asked.tokens)))

    async def _generate(
        self, request: Request, kind: type[requests.ChatRequest] | type[requests.CompletionRequest]
    ) -> Response:
        service, engine = self._loaded()
        asked: requests.ChatRequest | requests.CompletionRequest = await self._read(request, kind)
        jobs = await service.jobs(asked)
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        answer = answer_for(asked, request_id=request_id, config=self._nim.config, engine=engine)
        if asked.stream:
            if len(jobs) > 1:
                raise protocol.bad_parameter("Several prompts cannot be streamed by this endpoint.", "prompt")
            with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
            return await _stream(service, jobs[0], answer, with_usage=with_usage)
        answers = await _unless_disconnected(request, service.run(jobs))
        if answers is None:
            return Response(status_code=_CLIENT_GONE)
        used = protocol.usage([outcome for _, outcome in answers], answers_per_prompt=asked.n or 1)
        service.count_usage(used)
        return _json(answer.whole(answers, used))

    async def _read(self, request: Request, kind: type[requests.AnyRequest]) -> requests.AnyRequest:
        asked = requests.parse(kind, request.headers.get("content-type", ""), await request.body())
        model = getattr(asked, "model", None)
        if model is not None and model != self._nim.config.model_id:
            raise protocol.unknown_model(model)
        return asked

    def _loaded(self) -> tuple[Service, Engine]:
        if self._nim.service is None or self._nim.engine is None:
            raise protocol.not_ready()
        return self._nim.service, self._nim.engine


async def _stream(
    service: Service, job: Job, answer: protocol.ChatAnswer | protocol.CompletionAnswer, *, with_usage: bool
) -> Response:
    """The stream's response, once its first piece shows that the engine took the request."""
    pieces = service.stream(job)
    first = await anext(pieces)
    events = _events(service, first, pieces, answer, with_usage=with_usage)
    return StreamingResponse(events, headers={"content-type": "text/event-stream; charset=utf-8"})


async def _events(
    service: Service,
    first: Piece | Outcome,
    pieces: AsyncGenerator[Piece | Outcome],
    answer: protocol.ChatAnswer | protocol.CompletionAnswer,
    *,
    with_usage: bool,
) -> AsyncIterator[str]:
    item = first
    async with aclosing(pieces):
        if opening := answer.opening():
            yield opening
        try:
            while isinstance(item, Piece):
                yield answer.piece(item)
                item = await anext(pieces)
        except protocol.ApiError as error:
            yield protocol.stream_error(error)
            yield protocol.STREAM_END
            return
        used = protocol.usage([item])
        service.count_usage(used)
        yield answer.closing(Piece(""), item)
        if with_usage:
            yield answer.used(used)
        yield protocol.STREAM_END


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The work's result, or None once the client is gone; then the work is cancelled."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError, protocol.ApiError):
            await task
        return None
    finally:
        task.cancel()
        watcher.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(body: protocol.Body, status: int = 200) -> Response:
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(content, status_code=status, media_type="application/json")


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, protocol.ApiError)
    return _json(error.body, error.status)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _crash(_: Request, __: Exception) -> Response:
    """The envelope for a fault of ours; Starlette raises it again afterwards, so the log has the trace."""
    return await _api_error(_, protocol.engine_error("Internal server error"))
