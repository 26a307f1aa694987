"""What stands between the network and the page: security headers, forms that only our own pages can send, sign-in."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_platform.review.people import Access, Person

FORM_COOKIE = "llm_platform_review_form"
TOKEN_COOKIE = "llm_platform_review_token"
FORM_FIELD = "form_key"
LARGEST_FORM = 256 * 1024
MOST_FIELDS = 400
SIGNED_IN_SECONDS = 30 * 86_400

UNREADABLE = "The form could not be read. Go back, reload the page, and try again."

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with it, browsers say `Origin: null` when they send a form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


CARD_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""Of pages that runs have written: one file each, with its style in it, which runs no script and loads nothing."""


class Refused(Exception):
    """A request that is not served; `status` and what to tell the person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class SecurityHeaders:
    """Adds the security headers to every response. Documents are never kept by a browser or a proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


def person_of(request: Request, access: Access) -> Person | None:
    """Who sends this request; None for somebody unknown.

    Raises:
        Refused: the identity header occurs twice, so somebody may have added it on the way to the proxy.
    """
    if access.local is not None:
        return access.local
    if access.header is not None:
        values = request.headers.getlist(access.header)
        if len(values) > 1:
            raise Refused(
                400, "The proxy named two people at once. Ask whoever runs it to drop the header it receives."
            )
        return access.of_header(values[0] if values else None)
    return access.of_token(request.cookies.get(TOKEN_COOKIE))


async def read_form(request: Request) -> list[tuple[str, str]]:
    """Fields of a form that was sent from one of our pages, without the form key.

    Raises:
        Refused: it is too large, or came from somewhere else.
    """
    _require_same_origin(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise Refused(413, f"The form is larger than {LARGEST_FORM // 1024} KiB. Shorten what you wrote.")
    try:
        fields = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refused(400, UNREADABLE) from error
    if b"\0" in unquote_to_bytes(bytes(body)):
        raise Refused(400, UNREADABLE)
    given = next((value for name, value in fields if name == FORM_FIELD), "")
    expected = request.cookies.get(FORM_COOKIE, "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Refused(403, "This form was not opened in this browser session. Go back, reload the page, and try again.")
    return [(name, value) for name, value in fields if name != FORM_FIELD]


def _require_same_origin(request: Request) -> None:
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc != host):
        raise Refused(403, "This form came from another web site, so nothing was stored.")


def form_key(request: Request) -> str:
    """The secret that forms of this browser carry: the one it has, or a new one."""
    return request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)


def set_cookie(request: Request, response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """A cookie that scripts cannot read and other sites cannot send."""
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="strict", secure=secure, path="/")
