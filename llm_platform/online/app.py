"""The ASGI application: routes, who may take them, and what callers are told.

Nothing is said of a document but its key, and nothing of an answer but to who has asked for it: errors and logs are
made of our own words.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llm_platform.errors import unexpected
from llm_platform.online.callers import METRICS, CallerLimits, Callers, OnlineCaller
from llm_platform.online.desk import AnswerDesk, OnlineAnswer, Question, Turned
from llm_platform.online.figures import Figures
from llm_platform.online.forms import (
    answer_body,
    as_events,
    chat_body,
    chat_question_of,
    error_body,
    parsed,
    question_of,
)

logger = logging.getLogger(__name__)

LARGEST_BODY = 4 * 1024 * 1024
"""Bytes of a request; a document may have fewer characters, see `documents.max_characters`."""
MOST_READ = 8 * LARGEST_BODY
JSON = "application/json"
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]
Handler = Callable[[Request, OnlineCaller], Awaitable[Response]]


def online_app(
    desks: Mapping[str, AnswerDesk],
    callers: Callers,
    *,
    hosts: tuple[str, ...],
    deadline_seconds: float,
    lifespan: Lifespan | None = None,
) -> Starlette:
    """The service over the desks of some applications.

    Args:
        desks: Application name → its desk.
        callers: Who may ask.
        hosts: Names under which it may be asked for; another one is what a rebound DNS name would say.
        deadline_seconds: How long a caller waits that does not say.
        lifespan: Begins and ends what is behind the desks.
    """
    service = _Service(desks, callers, deadline_seconds)
    routes = [
        Route("/v1/applications/{application}/answers", service.guarded(service.answers), methods=["POST"]),
        Route("/v1/applications/{application}/notices", service.guarded(service.notices), methods=["POST"]),
        Route("/v1/chat/completions", service.guarded(service.chat), methods=["POST"]),
        Route("/v1/models", service.guarded(service.models)),
        Route("/v1/health/live", lambda _: PlainTextResponse("ok")),
        Route("/v1/health/ready", service.ready),
        Route("/metrics", service.guarded(service.metrics)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: _no_such_place},
        lifespan=lifespan,
    )


class _Service:
    """Handlers."""

    def __init__(self, desks: Mapping[str, AnswerDesk], callers: Callers, deadline_seconds: float) -> None:
        self._desks, self._callers, self._deadline_seconds = desks, callers, deadline_seconds
        self._limits, self._figures = CallerLimits(), Figures()

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler that meets known callers only, and whose refusals are replies."""

        async def guarded(request: Request) -> Response:
            application, name = request.path_params.get("application", ""), "unknown"
            request.state.application = application if application in self._desks else ""
            try:
                caller = self._caller(request)
                name = caller.name
                response = await handler(request, caller)
            except Turned as turned:
                response = _refusal(turned)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - no foreign words get further
                logger.error("A request was not answered: %s", unexpected(error))
                response = _refusal(
                    Turned(500, "internal_error", "The service has made a mistake; its log says where.")
                )
            self._figures.requests[request.state.application, name, response.status_code] += 1
            return response

        return guarded

    async def answers(self, request: Request, caller: OnlineCaller) -> Response:
        """One document in our own form."""
        name = request.path_params["application"]
        desk = self._desk(name, caller)
        with self._limits.within(caller):
            body = parsed(await _body(request))
            question = question_of(body, desk, deadline_seconds=self._deadline_seconds)
            answered = await self._answered(name, desk, replace(question, caller=caller.name))
            return Response(answer_body(answered, desk, application=name), media_type=JSON)

    async def notices(self, request: Request, caller: OnlineCaller) -> Response:
        """That the source of an application has changed. What the body says is not looked at."""
        name = request.path_params["application"]
        desk = self._desk(name, caller)
        with self._limits.within(caller):
            await _body(request)
            await desk.notify(caller.name)
            return Response(to_json({"application": name, "noticed": True}), status_code=202, media_type=JSON)

    async def chat(self, request: Request, caller: OnlineCaller) -> Response:
        """One document in OpenAI's form."""
        with self._limits.within(caller):
            body = parsed(await _body(request))
            name = body.get("model")
            if not isinstance(name, str):
                raise Turned(400, "invalid_request", "'model' is to name an application.")
            desk = self._desk(name, caller)
            request.state.application = name
            question = chat_question_of(body, desk, deadline_seconds=self._deadline_seconds)
            answered = await self._answered(name, desk, replace(question, caller=caller.name))
            reply = chat_body(answered, application=name)
            if body.get("stream"):
                return Response(as_events(reply), media_type="text/event-stream", headers={"cache-control": "no-store"})
            return Response(to_json(reply), media_type=JSON)

    async def models(self, _: Request, caller: OnlineCaller) -> Response:
        """The applications that a caller may ask, as OpenAI lists models."""
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "llm_platform"}
            for name in self._desks
            if caller.may_use(name)
        ]
        return Response(to_json({"object": "list", "data": cards}), media_type=JSON)

    async def ready(self, _: Request) -> Response:
        """Whether all applications can answer; what does not work meanwhile is said."""
        states = {name: desk.state() for name, desk in self._desks.items()}
        found = {
            name: {
                "ready": state.problem is None,
                "problem": state.problem,
                "degraded": list(state.degraded),
                "release": state.champion,
                "variant": state.variant,
                "uncommitted": state.uncommitted,
            }
            for name, state in states.items()
        }
        is_ready = all(state.problem is None for state in states.values())
        told = {"status": "ready" if is_ready else "not ready", "callers": self._callers.problem, "applications": found}
        return Response(to_json(told), status_code=200 if is_ready else 503, media_type=JSON)

    async def metrics(self, _: Request, caller: OnlineCaller) -> Response:
        """Figures, for Prometheus."""
        if not caller.may_use(METRICS):
            raise Turned(403, "forbidden", f"{caller.name} may not read metrics; that is the scope {METRICS!r}.")
        return PlainTextResponse(self._figures.text(self._desks))

    async def _answered(self, name: str, desk: AnswerDesk, question: Question) -> OnlineAnswer:
        began = time.perf_counter()
        answered = await desk.answer(question)
        self._figures.answered(name, time.perf_counter() - began, was_stored=answered.was_stored)
        return answered

    def _caller(self, request: Request) -> OnlineCaller:
        # A page of another site may send requests from the browser of somebody on this machine.
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
            raise Turned(403, "forbidden", "The request comes from a page of another web site.")
        if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
            raise Turned(415, "invalid_request", f"The body is to have the content type {JSON}.")
        caller = self._callers.of(request.headers.get("authorization"))
        if caller is None:
            raise Turned(401, "unauthorized", "Nobody has this token. Send one as 'Authorization: Bearer …'.")
        return caller

    def _desk(self, name: str, caller: OnlineCaller) -> AnswerDesk:
        desk = self._desks.get(name)
        # Who may not ask an application is not told whether there is one.
        if desk is None or not caller.may_use(name):
            allowed = ", ".join(one for one in self._desks if caller.may_use(one)) or "none"
            raise Turned(
                404, "no_such_application", f"{caller.name} may ask no such application; it may ask: {allowed}."
            )
        return desk


async def _body(request: Request) -> bytes:
    """The body.

    Raises:
        Turned: it is too large. It is read and dropped first, within bounds: a caller that is still sending reads no
            reply.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MOST_READ:
        raise _too_large()
    body, read = bytearray(), 0
    async for chunk in request.stream():
        read += len(chunk)
        if read <= LARGEST_BODY:
            body += chunk
        elif read > MOST_READ:
            break
    if read > LARGEST_BODY:
        raise _too_large()
    return bytes(body)


def _too_large() -> Turned:
    return Turned(413, "too_large", f"The body is larger than {LARGEST_BODY // 2**20} MiB.")


def _refusal(turned: Turned) -> Response:
    headers: dict[str, Any] = {}
    if turned.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(turned.retry_after)))
    if turned.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(error_body(turned), status_code=turned.status, media_type=JSON, headers=headers)


async def _no_such_place(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _refusal(Turned(status, "not_found", "There is no such address here, or not for this method."))
