"""The web page: routes, and what each hands to its template."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from llm_platform.errors import ContractBroken, PlatformError, TransientError
from llm_platform.records import AnswersFilter, ReviewQueue, content_hash
from llm_platform.review import status
from llm_platform.review.answers import ANSWER_SHOWN, beginning_of
from llm_platform.review.corrections import corrected_answer
from llm_platform.review.desk import Desk, Submitted
from llm_platform.review.guard import (
    CARD_POLICY,
    FORM_COOKIE,
    SIGNED_IN_SECONDS,
    TOKEN_COOKIE,
    Refused,
    SecurityHeaders,
    form_key,
    person_of,
    read_form,
    set_cookie,
)
from llm_platform.review.items import ReviewDecision
from llm_platform.review.people import Access, Person
from llm_platform.review.queues import ONE, QUEUES
from llm_platform.review.status import NamespaceStatus
from llm_platform.review.views import agreement_view, item_view, verdict_view
from llm_platform.tables.forms import one_form

HISTORY_ROWS = 50
LONGEST_NUMBER = 18
"""Digits of a row's number, which is one of 64 bits."""
DOCUMENT_ON_CARD = re.compile(r'<li class="id">(?P<key>[^<]+)</li>')
"""How report cards list documents, escaped."""
LIVE_SECONDS = 1.0
LIVE_LOOKS = 600
"""Then the browser asks again, and who has signed out meanwhile is told nothing more."""
WRONG = "wrong"
"""Name of the boxes that say of a field that it is wrong; their value is `<letter of the answer>.<field>`."""
Handler = Callable[[Request, Person], Awaitable[Response]]


def review_app(
    desks: Mapping[str, Desk],
    access: Access,
    *,
    hosts: tuple[str, ...],
    platform: Callable[[], NamespaceStatus] = NamespaceStatus,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """The page over the desks of some applications.

    Args:
        desks: Application name → its desk.
        access: How people are told apart.
        hosts: Names under which the page may be asked for; another one is what a rebound DNS name would say.
        platform: What belongs to no application that can be used.
        clock: The time of verdicts.
    """
    pages = _Pages(desks, access, platform, clock)
    routes = [
        Route("/", pages.guarded(pages.start), name="start"),
        Route("/live", pages.guarded(pages.live), name="live"),
        Route("/health", lambda _: PlainTextResponse("ok")),
        Route("/sign-in", pages.sign_in, name="sign_in", methods=["GET", "POST"]),
        Route("/sign-out", pages.sign_out, name="sign_out", methods=["POST"]),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static"),
        Route("/{application}", pages.guarded(pages.overview), name="overview"),
        Route("/{application}/endpoints/{entry}", pages.guarded(pages.endpoints), name="endpoints"),
        Route("/{application}/cards/{page}", pages.guarded(pages.card), name="card"),
        Route("/{application}/queue/{queue}", pages.guarded(pages.item), name="queue"),
        Route("/{application}/queue/{queue}", pages.guarded(pages.decide), name="decide", methods=["POST"]),
        Route("/{application}/answers", pages.guarded(pages.answers), name="answers"),
        Route("/{application}/answers", pages.guarded(pages.judge), name="judge", methods=["POST"]),
        Route("/{application}/undo", pages.guarded(pages.undo), name="undo", methods=["POST"]),
        Route("/{application}/history", pages.guarded(pages.history), name="history"),
        Route("/{application}/verdicts", pages.guarded(pages.verdicts), name="verdicts"),
        Route("/{application}/agreement", pages.guarded(pages.agreement), name="agreement"),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: pages.not_found},
    )


class _Pages:
    """Handlers of the page."""

    def __init__(
        self,
        desks: Mapping[str, Desk],
        access: Access,
        platform: Callable[[], NamespaceStatus],
        clock: Callable[[], datetime],
    ) -> None:
        self._desks = desks
        self._platform = platform
        self._access = access
        self._clock = clock
        self._templates = Environment(
            loader=PackageLoader("llm_platform.review"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler that meets known people only, and whose errors become pages."""

        async def guarded(request: Request) -> Response:
            person: Person | None = None
            try:
                person = person_of(request, self._access)
                if person is None:
                    return self._stranger(request)
                if any("\0" in value for value in (*request.path_params.values(), *request.query_params.values())):
                    raise Refused(404, "There is no such page.")
                return await handler(request, person)
            except Refused as refused:
                return self._message(request, person, refused.status, refused.message)
            except TransientError as error:
                return self._message(request, person, 503, str(error))
            except PlatformError as error:
                return self._message(request, person, 409, str(error))

        return guarded

    async def start(self, request: Request, person: Person) -> Response:
        """Where every application stands, and what waits for whom."""
        now = self._clock()
        found = {name: await run_in_threadpool(desk.status, now=now) for name, desk in self._desks.items()}
        return self._page(request, person, "start.html", found=found, platform=self._platform(), words=status)

    async def live(self, request: Request, person: Person) -> Response:
        """What is under way, as server-sent events: the part of the start page that shows it, each time it changes."""
        del person
        template = self._templates.get_template("live.html")

        async def events() -> AsyncIterator[str]:
            shown: dict[str, str] = {}
            for _ in range(LIVE_LOOKS):
                for name, desk in self._desks.items():
                    works = await run_in_threadpool(desk.under_way, now=self._clock())
                    html = template.render(under_way=works)
                    if shown.get(name) != html:
                        shown[name] = html
                        yield f"data: {json.dumps({'application': name, 'html': html, 'works': len(works)})}\n\n"
                if await request.is_disconnected():
                    return
                await asyncio.sleep(LIVE_SECONDS)
                yield ": still here\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def card(self, request: Request, person: Person) -> Response:
        """A page that runs have written: the report card, drift, adapters."""
        del person
        page = request.path_params["page"]
        return await self._written(request, page, lambda desk: desk.card(page))

    async def endpoints(self, request: Request, person: Person) -> Response:
        """The page of one model's endpoints, which a look at them has written."""
        del person
        entry = request.path_params["entry"]
        return await self._written(request, entry, lambda desk: desk.endpoints(entry))

    async def _written(self, request: Request, here: str, read: Callable[[Desk], str | None]) -> Response:
        desk = self._desk(request)
        html = await run_in_threadpool(read, desk)
        if html is None:
            raise Refused(404, "No run has written this page yet. It comes with the next run of the application.")
        one = await run_in_threadpool(desk.status, now=self._clock())
        around = self._templates.get_template("around.html").render(url=request.url_for, one=one, here=here)
        answers = request.app.url_path_for("answers", application=desk.application.name)
        html = _with_links(html.replace("<main>", f"{around}<main>", 1), answers=str(answers))
        return HTMLResponse(html, headers={"content-security-policy": CARD_POLICY})

    async def overview(self, request: Request, person: Person) -> Response:
        """Queues and progress of one application."""
        desk = self._desk(request)
        overview = await run_in_threadpool(desk.overview, person)
        slices = await run_in_threadpool(desk.slices)
        return self._page(request, person, "overview.html", desk=desk, overview=overview, slices=slices)

    async def item(self, request: Request, person: Person) -> Response:
        """The next document of a queue."""
        queue = self._queue(request, person)
        return await self._shown(request, person, queue, document_id=request.query_params.get("document"))

    async def decide(self, request: Request, person: Person) -> Response:
        """Take a decision; then the next document."""
        queue = self._queue(request, person)
        fields = await read_form(request)
        form = dict(fields)
        desk = self._desk(request)
        name = desk.application.name
        if form.get("decision") == "skip":
            await run_in_threadpool(desk.skip, person, queue, form.get("document", ""))
            return _see(
                request, "queue", _query(queue, names=form.get("blind") != "1"), application=name, queue=queue.name
            )
        try:
            submitted = _submitted(fields, queue, desk, person)
            await run_in_threadpool(desk.decide, person, submitted, at=self._clock())
        except ContractBroken as error:
            document_id = form.get("document")
            return await self._shown(
                request,
                person,
                queue,
                document_id=document_id,
                mistake=str(error),
                typed=form,
                status=422,
                wrong=[value for name, value in fields if name == WRONG],
            )
        if queue.name == "answers":
            return _see(request, "answers", {"id": submitted.document_id}, application=name)
        return _see(request, "queue", _query(queue, names=not submitted.blind), application=name, queue=queue.name)

    async def answers(self, request: Request, person: Person) -> Response:
        """Documents beside the answers of every variant, a page at a time."""
        return await self._answers(request, person)

    async def judge(self, request: Request, person: Person) -> Response:
        """Take a decision about a document on the page of answers; then the same page."""
        desk = self._desk(request)
        if not person.judges:
            raise Refused(403, "Verdicts are for reviewers.")
        fields = await read_form(request)
        try:
            submitted = _submitted(fields, ReviewQueue(name="answers"), desk, person)
            await run_in_threadpool(desk.decide, person, submitted, at=self._clock())
        except ContractBroken as error:
            return await self._answers(request, person, mistake=str(error), status=422)
        query = {name: value for name, value in request.query_params.items() if name != "open"}
        target = request.app.url_path_for("answers", application=desk.application.name)
        return RedirectResponse(f"{target}?{urlencode(query)}#d-{quote(submitted.document_id)}", status_code=303)

    async def undo(self, request: Request, person: Person) -> Response:
        """Take the newest decision back, and show its document again."""
        await read_form(request)
        desk = self._desk(request)
        undone = await run_in_threadpool(desk.undo, person, at=self._clock())
        name = desk.application.name
        if undone is None or undone[0] not in QUEUES or undone[0] == "slice":
            return _see(request, "overview", application=name)
        return _see(request, "queue", {"document": undone[1]}, application=name, queue=undone[0])

    async def history(self, request: Request, person: Person) -> Response:
        """Decisions, newest first."""
        desk = self._desk(request)
        by = request.query_params.get("by") or None
        rows = await run_in_threadpool(desk.history, by=by, before=_before(request))
        more = rows[-1]["number"] if len(rows) == HISTORY_ROWS else None
        return self._page(request, person, "history.html", desk=desk, rows=rows, by=by, more=more)

    async def verdicts(self, request: Request, person: Person) -> Response:
        """What the person has said, newest first, with a way to say something else."""
        desk = self._desk(request)
        if not person.judges:
            raise Refused(403, "You have said nothing: verdicts are for reviewers.")
        rows = await run_in_threadpool(desk.history, by=person.name, before=_before(request))
        more = rows[-1]["number"] if len(rows) == HISTORY_ROWS else None
        said = [verdict_view(row, desk.application) for row in rows if row["answers"]]
        return self._page(request, person, "verdicts.html", desk=desk, rows=said, more=more)

    async def agreement(self, request: Request, person: Person) -> Response:
        """How far people agree, and what is undecided."""
        desk = self._desk(request)
        found = await run_in_threadpool(desk.agreements)
        overview = await run_in_threadpool(desk.overview, person)
        rows = [agreement_view(one) for one in found]
        return self._page(request, person, "agreement.html", desk=desk, rows=rows, overview=overview)

    async def sign_in(self, request: Request) -> Response:
        """The form for a token, and what it sends."""
        if not self._access.by_token:
            return _see(request, "start")
        if request.method == "GET":
            return self._page(request, None, "sign_in.html", mistake=None)
        try:
            form = dict(await read_form(request))
        except Refused as refused:
            return self._message(request, None, refused.status, refused.message)
        if self._access.of_token(form.get("token", "").strip()) is None:
            return self._page(request, None, "sign_in.html", mistake="Nobody has this token.", status=403)
        response = _see(request, "start")
        set_cookie(request, response, TOKEN_COOKIE, form["token"].strip(), seconds=SIGNED_IN_SECONDS)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the token in this browser."""
        with contextlib.suppress(Refused):
            await read_form(request)
        response = _see(request, "sign_in")
        response.delete_cookie(TOKEN_COOKIE, path="/")
        return response

    async def not_found(self, request: Request, error: Exception) -> Response:
        """A page for an address that does not exist."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._message(request, None, status, "There is no such page.")

    async def _answers(
        self, request: Request, person: Person, *, mistake: str | None = None, status: int = 200
    ) -> Response:
        desk, wanted = self._desk(request), _answers_wanted(request)
        if wanted.attribute is not None and not person.judges:
            # Which documents a group has tells what stands in them.
            raise Refused(403, "Groups are made of what documents say; they are for reviewers.")
        found = await run_in_threadpool(desk.answers, wanted, person)
        filters = await run_in_threadpool(desk.answer_filters, person)
        opened = request.query_params.get("open") if person.judges else None
        view = None
        if opened in {row.document_id for row in found.rows}:
            item = await run_in_threadpool(desk.opened, opened, person)
            view = item_view(item, desk.application, names=True, typed={})
        query = {name: value for name, value in request.query_params.items() if name != "open"}
        return self._page(
            request, person, "answers.html", desk=desk, wanted=wanted, page=found, filters=filters, mistake=mistake,
            opened=opened if view is not None else None, view=view, group_id=uuid4().hex, query=urlencode(query),
            begun=partial(beginning_of, most=ANSWER_SHOWN),
            next_query=urlencode({**query, "after": found.after or ""}), status=status,
        )  # fmt: skip

    async def _shown(
        self,
        request: Request,
        person: Person,
        queue: ReviewQueue,
        *,
        document_id: str | None,
        mistake: str | None = None,
        typed: Mapping[str, str] | None = None,
        wrong: Sequence[str] = (),
        status: int = 200,
    ) -> Response:
        desk = self._desk(request)
        opened = await run_in_threadpool(desk.open, person, queue, document_id=document_id)
        names = queue.name == "answers" or request.query_params.get("names") == "1"
        shared: dict[str, Any] = {"desk": desk, "queue": queue, "text": QUEUES.get(queue.name, ONE), "names": names}
        if opened is None:
            return self._page(request, person, "empty.html", **shared)
        view = item_view(opened, desk.application, names=names, typed=typed or {}, wrong=wrong)
        group_id = (typed or {}).get("group") or uuid4().hex
        query = _query(queue, names=not names)
        return self._page(
            request, person, "item.html", **shared, view=view, group_id=group_id, mistake=mistake, status=status,
            other_view=f"?{urlencode(query)}" if query else "?",
        )  # fmt: skip

    def _desk(self, request: Request) -> Desk:
        name = request.path_params["application"]
        if name not in self._desks:
            raise Refused(404, f"There is no application {name!r} here.")
        return self._desks[name]

    def _queue(self, request: Request, person: Person) -> ReviewQueue:
        self._desk(request)
        parameters = request.query_params
        values = {
            "name": request.path_params["queue"],
            "attribute": parameters.get("attribute"),
            "value": parameters.get("value"),
        }
        try:
            queue = ReviewQueue.model_validate(values)
        except ValidationError as error:
            raise Refused(404, "There is no such queue.") from error
        is_whole = {"answers": "document" in parameters, "slice": None not in (queue.attribute, queue.value)}
        if not is_whole.get(queue.name, True):
            raise Refused(404, "There is no such queue.")
        if not person.judges:
            raise Refused(403, "You may look at progress, agreement and history; documents are for reviewers.")
        if queue.name == "adjudication" and not person.adjudicates:
            raise Refused(403, "Only adjudicators decide where others disagree.")
        return queue

    def _stranger(self, request: Request) -> Response:
        if self._access.by_token:
            return _see(request, "sign_in")
        raise Refused(401, "The proxy in front of this page did not say who you are. Ask whoever runs it.")

    def _message(self, request: Request, person: Person | None, status: int, message: str) -> Response:
        return self._page(request, person, "message.html", message=message, status=status)

    def _page(
        self, request: Request, person: Person | None, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        key = form_key(request)
        html = self._templates.get_template(template).render(
            url=request.url_for, person=person, form_key=key, by_token=self._access.by_token, queues=QUEUES, **values
        )
        response = HTMLResponse(html, status_code=status)
        if FORM_COOKIE not in request.cookies:
            set_cookie(request, response, FORM_COOKIE, key)
        return response


def _see(request: Request, route: str, query: Mapping[str, str] | None = None, **path: str) -> RedirectResponse:
    """On to another of our pages; the target is always made from a route, never from what was sent."""
    target = request.app.url_path_for(route, **path)
    return RedirectResponse(f"{target}?{urlencode(query)}" if query else str(target), status_code=303)


def _with_links(html: str, *, answers: str) -> str:
    """A page that a run has written, with a link from every document that it names."""

    def linked(found: re.Match[str]) -> str:
        key = unescape(found["key"])
        address = f"{answers}?{escape(urlencode({'id': key, 'open': key}))}"
        return f'<li class="id"><a href="{address}">{found["key"]}</a></li>'

    return DOCUMENT_ON_CARD.sub(linked, html)


def _before(request: Request) -> int | None:
    """The number of the row before which a page of history ends; None where the address has none that could be one."""
    number = request.query_params.get("before", "")
    return int(number) if number.isdecimal() and len(number) <= LONGEST_NUMBER else None


def _answers_wanted(request: Request) -> AnswersFilter:
    parameters = request.query_params
    attribute, found, value = parameters.get("slice", "").partition("=")
    try:
        return AnswersFilter.model_validate(
            {
                "only": parameters.get("only", "all"),
                "variant": parameters.get("variant", ""),
                "tag": parameters.get("tag", ""),
                "attribute": attribute if found else None,
                "value": value if found else None,
                "document_id": one_form(parameters.get("id", "")),
                "after": parameters.get("after", ""),
            }
        )
    except ValidationError as error:
        raise Refused(404, "There is no such filter of answers.") from error


def _query(queue: ReviewQueue, *, names: bool) -> dict[str, str]:
    query = {"names": "1"} if names else {}
    return query | {
        key: value for key, value in (("attribute", queue.attribute), ("value", queue.value)) if value is not None
    }


def _submitted(fields: Sequence[tuple[str, str]], queue: ReviewQueue, desk: Desk, person: Person) -> Submitted:
    form = dict(fields)
    kind, _, letter = form.get("decision", "").partition(":")
    if kind not in ("choice", "all", "none", "correction", "cannot_tell", "fields"):
        raise ContractBroken("No decision was made. Choose one of the buttons.")
    answer = corrected_answer({**form, **_chosen_label(letter)}, desk.application) if kind == "correction" else None
    marked = [value.partition(".") for name, value in fields if name == WRONG]
    wrong = frozenset((choice, field) for choice, _, field in marked)
    return Submitted(
        document_id=form.get("document", ""),
        shown=form.get("shown", ""),
        decision=ReviewDecision(kind, letter or None, answer, wrong),  # type: ignore[arg-type]
        # Bound to the person: nobody can take the place of another one's decision.
        group_id=content_hash([form.get("group") or uuid4().hex, person.name]),
        queue=queue,
        blind=form.get("blind") == "1",
        tags=[*(value for name, value in fields if name == "tag"), *form.get("tags", "").split(",")],
        note=form.get("note", ""),
    )


def _chosen_label(label: str) -> dict[str, str]:
    """The label of a button that is the correction itself."""
    return {"label": label} if label else {}
