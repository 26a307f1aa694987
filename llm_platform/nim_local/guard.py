"""Who may ask the server at all: no page of a browser, nobody behind another name, and only who knows the token changes
what is served.

A browser sends requests to this machine for any page that is open in it: cross-origin ones without asking when they
look like a form's, and same-origin ones once a name of the page's own is made to point here.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024 * 1024
"""A prompt that fills the largest context there is has megabytes."""

CHANGES = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_INSIDE = (".local", ".internal", ".svc", ".localdomain", ".home.arpa")
"""Ends of names that nobody can register."""
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})


class Guard:
    """Decides on a request by its head.

    Args:
        host: Address that the server listens on; where that is every address, any name is right that
            no stranger can point here.
        token: What a request that changes what is served carries as bearer token; None refuses all of them.
    """

    def __init__(self, host: str, token: str | None) -> None:
        self._everywhere = host in _EVERY_ADDRESS
        self._names = _LOOPBACK | ({socket.getfqdn().lower()} if self._everywhere else {host})
        self._token = token

    def refusal(self, scope: Scope, *, changes: bool) -> tuple[int, str] | None:
        """(status, why) of a request that is not answered; `changes` says whether it would change what is served."""
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        host = given.get("host", "")
        if not self._is_ours(_name(host)):
            return 421, "This server answers to the name of this machine only."
        origin = given.get("origin")
        if given.get("sec-fetch-site") in ("cross-site", "same-site") or (
            origin is not None and origin != f"{scope['scheme']}://{host}"
        ):
            return 403, "This server does not answer pages of other origins."
        if scope["method"] == "POST" and given.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "The body must be application/json, and the request must say so."
        if _length(given.get("content-length")) > MAX_BODY_BYTES:
            return 413, f"The body is longer than {MAX_BODY_BYTES} bytes."
        if changes and not self._knows_token(given.get("authorization", "")):
            return 401, (
                "Adapters are loaded and unloaded with the token of this server, which is in its endpoint.json, as "
                "'Authorization: Bearer …'. Publishing to its PEFT folder needs none."
            )
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self._names or (self._everywhere and _cannot_be_pointed_here(name))

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given.strip().encode(), self._token.encode())
        )


class TooLong(Exception):
    """A body without a length went past the limit."""


def limited(receive: Receive) -> Receive:
    """The same, for bodies up to the limit: one that comes in chunks does not say how long it is."""
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if size > MAX_BODY_BYTES:
            raise TooLong
        return message

    return receive_some


async def refuse(send: Send, status: int, why: str) -> None:
    """Answer with a refusal."""
    body = json.dumps({"detail": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cannot_be_pointed_here(name: str) -> bool:
    """Whether a name is an address, or one that only this network's own servers of names know."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        inside = name.removesuffix(".cluster.local")
        return bool(name) and ("." not in name or inside.endswith(_INSIDE))


def _length(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
