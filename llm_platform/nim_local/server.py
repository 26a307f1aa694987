"""The HTTP surface: routes, headers, streams, and what happens when a client goes away."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_platform.errors import PlatformError
from llm_platform.nim_local import protocol, requests
from llm_platform.nim_local.adapters import RankTooLarge
from llm_platform.nim_local.answers import STREAM_END, ChatAnswer, CompletionAnswer, event, usage
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.dialects import EmbeddedDialect, dialect_of
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.generation import Outcome, Piece
from llm_platform.nim_local.guard import CHANGES, MAX_BODY_BYTES, Guard, TooLong, limited, refuse
from llm_platform.nim_local.metrics import Metrics
from llm_platform.nim_local.peft import CONFIG_FILE, WEIGHTS_FILE
from llm_platform.nim_local.service import Service, answer_for
from llm_platform.nim_local.shelf import OpenEngine, Shelf

Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]

# nginx's word for a client that left before the answer; nobody reads it, the metrics count it.
_CLIENT_GONE = 499
# Probes and scrapes come by themselves and must not keep an idle server alive.
_NOT_USE = ("/v1/health/", "/v1/metrics")


@dataclass
class Nim:
    """The state of one server: loading, ready or draining.

    Attributes:
        cache: Folder for converted adapters.
        open_engine: Loads the weights with some adapters, beside the event loop.
    """

    config: EmbeddedConfig
    cache: Path
    open_engine: OpenEngine
    dialect: EmbeddedDialect = field(init=False)
    metrics: Metrics = field(init=False)
    shelf: Shelf = field(init=False)
    service: Service | None = None
    last_use: float = field(default_factory=time.monotonic)
    in_flight: int = 0
    _retired: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        config = self.config
        self.dialect = dialect_of(config)
        self.metrics = Metrics(
            config.model_id, slots=config.slots, context_length=config.context_length, family=self.dialect.family
        )
        self.shelf = Shelf(config, cache=self.cache, open_engine=self.open_engine, install=self._install)

    def _install(self, engine: Engine) -> None:
        """Let an engine answer from now on; one that answered before finishes its requests."""
        replaced, self.service = self.service, Service(engine, self.metrics)
        if replaced is not None:
            task = asyncio.create_task(replaced.close_when_unused())
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    async def close(self) -> None:
        """Release the engines."""
        service, self.service = self.service, None
        await asyncio.gather(*self._retired)
        if service is not None:
            await service.close_when_unused()

    def idle_seconds(self) -> float:
        """How long nobody has used the server."""
        return 0.0 if self.in_flight else time.monotonic() - self.last_use


def create_app(nim: Nim, guard: Guard) -> ASGIApp:
    """The NIM as an ASGI application, behind a guard."""
    endpoints, config, paths = _Endpoints(nim), nim.config, dict[str, list[str]]()
    bodies: dict[str, Callable[[], protocol.Body]] = {
        "/v1/health/live": lambda: nim.dialect.health("live"),
        "/v1/health/ready": endpoints.ready,
        "/v1/models": lambda: nim.dialect.models(config, nim.shelf.served.values(), now=int(time.time())),
        "/v1/adapters": endpoints.adapters,
        "/v1/metadata": lambda: protocol.metadata(config),
        "/v1/version": lambda: {"release": config.served_release, "api": nim.dialect.api_version},
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
    if nim.dialect.loads_adapters:
        handlers |= {
            "/v1/load_lora_adapter": endpoints.load_adapter,
            "/v1/unload_lora_adapter": endpoints.unload_adapter,
        }
    routes = [
        *(Route(path, endpoints.fixed(make), methods=["GET"]) for path, make in bodies.items()),
        Route("/v1/metrics", endpoints.metrics, methods=["GET"]),
        *(Route(path, handler, methods=["POST"]) for path, handler in handlers.items()),
    ]
    paths.update({route.path: sorted(route.methods or ()) for route in routes})
    errors: dict[Any, Any] = {
        protocol.ApiError: endpoints.api_error,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
        Exception: endpoints.crash,
    }
    return _Frame(Starlette(routes=routes, exception_handlers=errors), nim, guard, frozenset(paths))


class _Frame:
    """Around every request: the guard; count it, note the time, echo its `X-Request-Id`."""

    def __init__(self, app: ASGIApp, nim: Nim, guard: Guard, paths: frozenset[str]) -> None:
        self._app = app
        self._nim = nim
        self._guard = guard
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

        changes = path in CHANGES and path in self._paths
        if (refusal := self._guard.refusal(scope, changes=changes)) is not None:
            await refuse(framed_send, *refusal)
            return
        self._nim.in_flight += in_use
        try:
            await self._app(scope, limited(receive), framed_send)
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
        self._service()
        return self._nim.dialect.health("ready")

    def adapters(self) -> protocol.Body:
        """Not NIM's: which adapters are served, and why the others are not.

        `files` is what was read; `loads` counts how often the name was given something else to stand for.
        """
        shelf = self._nim.shelf
        served = {
            name: {
                "root": str(adapter.root),
                "content": adapter.content,
                "rank": adapter.rank,
                "files": {CONFIG_FILE: adapter.config_sha256, WEIGHTS_FILE: adapter.weights_sha256},
                "loads": shelf.loads.get(name, 0),
            }
            for name, adapter in shelf.served.items()
        }
        return {"adapters": served, "refused": shelf.refused}

    async def metrics(self, _: Request) -> Response:
        return Response(self._nim.metrics.text(), headers={"content-type": protocol.METRICS_CONTENT_TYPE})

    async def chat(self, request: Request) -> Response:
        return await self._generate(request, requests.ChatRequest)

    async def completion(self, request: Request) -> Response:
        return await self._generate(request, requests.CompletionRequest)

    async def tokenize(self, request: Request) -> Response:
        self._service()
        asked = await self._read(request, requests.TokenizeRequest)
        self._adapter(asked.model)
        service = self._service()
        with service.in_use():
            tokens = await service.tokenize(asked)
        strings = service.token_strings(tokens) if asked.return_token_strs else None
        return _json(protocol.tokenized(tokens, context_length=self._nim.config.context_length, strings=strings))

    async def detokenize(self, request: Request) -> Response:
        self._service()
        asked = await self._read(request, requests.DetokenizeRequest)
        self._adapter(asked.model)
        service = self._service()
        with service.in_use():
            return _json(protocol.detokenized(await service.detokenize(asked.tokens)))

    async def load_adapter(self, request: Request) -> Response:
        self._service()
        asked = await self._read(request, requests.LoadAdapterRequest)
        name, folder = asked.lora_name, Path(asked.lora_path)
        if name in self._nim.shelf.served and not asked.load_inplace:
            raise protocol.adapter_is_loaded(name)
        if not await asyncio.to_thread(folder.is_dir):
            raise protocol.no_adapter_at(name, asked.lora_path)
        try:
            await self._nim.shelf.load(name, folder)
        except RankTooLarge as error:
            raise protocol.engine_error(f"Call to add_lora method failed: {error}") from error
        except PlatformError as error:
            raise protocol.bad_request(f"Loading lora {name} failed: {error}") from error
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_adapter(self, request: Request) -> Response:
        self._service()
        asked = await self._read(request, requests.UnloadAdapterRequest)
        if not self._nim.shelf.unload(asked.lora_name):
            raise protocol.no_such_adapter(asked.lora_name)
        return Response(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    async def _generate(
        self, request: Request, kind: type[requests.ChatRequest] | type[requests.CompletionRequest]
    ) -> Response:
        self._service()
        asked: requests.ChatRequest | requests.CompletionRequest = await self._read(request, kind)
        # Between here and the first token nothing may replace the engine that has the adapter.
        adapter, service = self._adapter(asked.model), self._service()
        with service.in_use():
            return await self._answer(request, asked, adapter, service)

    async def _answer(
        self,
        request: Request,
        asked: requests.ChatRequest | requests.CompletionRequest,
        adapter: str | None,
        service: Service,
    ) -> Response:
        jobs = await service.jobs(asked, adapter=adapter)
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        answer = answer_for(asked, request_id=request_id, config=self._nim.config, engine=service.engine)
        if asked.stream:
            if len(jobs) > 1:
                raise protocol.bad_parameter("Several prompts cannot be streamed by this endpoint.", "prompt")
            with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
            pieces = service.stream(jobs[0])
            # The first piece shows that the engine took the request; before it an error still has a status.
            first = await anext(pieces)
            events = self._events(service, first, pieces, answer, with_usage=with_usage)
            return StreamingResponse(events, headers={"content-type": "text/event-stream; charset=utf-8"})
        answers = await _unless_disconnected(request, service.run(jobs))
        if answers is None:
            return Response(status_code=_CLIENT_GONE)
        used = usage([outcome for _, outcome in answers], answers_per_prompt=asked.n or 1)
        service.count_usage(used)
        return _json(answer.whole(answers, used))

    async def _events(
        self,
        service: Service,
        first: Piece | Outcome,
        pieces: AsyncGenerator[Piece | Outcome],
        answer: ChatAnswer | CompletionAnswer,
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
                # The stream has begun: its status can no longer say so.
                yield event(self._nim.dialect.error(error))
                yield STREAM_END
                return
            used = usage([item])
            service.count_usage(used)
            yield answer.closing(Piece(""), item)
            if with_usage:
                yield answer.used(used)
            yield STREAM_END

    async def _read(self, request: Request, kind: type[requests.AnyRequest]) -> requests.AnyRequest:
        content_type = request.headers.get("content-type", "")
        try:
            body = await request.body()
        except TooLong as error:
            raise HTTPException(413, f"The body is longer than {MAX_BODY_BYTES} bytes.") from error
        return requests.parse(kind, content_type, body, reword=self._nim.dialect.fields)

    def _adapter(self, model: str | None) -> str | None:
        """The adapter that a request asks for; None is the base model."""
        if model is None or model == self._nim.config.model_id:
            return None
        if model not in self._nim.shelf.served:
            raise protocol.unknown_model(model)
        return model

    def _service(self) -> Service:
        if self._nim.service is None:
            raise protocol.not_ready()
        return self._nim.service

    async def api_error(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, protocol.ApiError)
        return _json(self._nim.dialect.error(error), error.status)

    async def crash(self, request: Request, _: Exception) -> Response:
        """The envelope for a fault of ours; Starlette raises it again afterwards, so the log has the trace."""
        return await self.api_error(request, protocol.engine_error("Internal server error"))


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


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)
