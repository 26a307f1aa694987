"""The default wire: HTTP/1.1 under asyncio, read by llhttp, the parser of Node.js.

A general client pays for what a bulk run never uses: redirects, cookies, content encodings, one object a header. Here a
request is one write, and a reply one wake-up of the worker that waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

from llm_platform.errors import SpecificationError
from llm_platform.inference.wire import NO_HEADERS, Reply, request_headers
from llm_platform.settings.causes import CERTIFICATE, too_long
from llm_platform.settings.connection import Connection, trusted

_READ_BYTES = 256 * 1024
_SWEEP_SECONDS = 0.1
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(slots=True)
class _Origin:
    """One address, with its connections that wait for work; the last one used is taken first."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    idle: deque[_Exchange] = field(default_factory=deque)


class HttpWire:
    """Keeps connections open, one for each request in flight. Make it inside a running event loop.

    Redirects are not followed, and nothing is sent a second time: what a lost reply means is the engine's decision.
    Proxies are not supported, see `llm_platform.inference.wire_rust`.
    """

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect_seconds, self._keep_seconds = connection.connect_timeout_seconds, connection.keep_alive_seconds
        self._max_reply_bytes = connection.max_reply_bytes
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in _headers(connection).items())
        # Reading the machine's authorities takes 20 ms; a file that cannot be read is told before anything is sent.
        self._tls = trusted(connection) if connection.ca_file is not None else None
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._heads: dict[tuple[str, str], tuple[_Origin, bytes]] = {}
        self._busy: set[_Exchange] = set()
        # Read and parsed before the next connection is served, so that all of them can share it.
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look_at_the_clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def post(self, url: str, body: bytes, *, timeout_seconds: float) -> Reply:
        """Send a JSON body."""
        origin, head = self._heads.get(("POST", url)) or self._head("POST", url)
        return await self._ask(origin, b"%b%d\r\n\r\n%b" % (head, len(body), body), timeout_seconds)

    async def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Read a document."""
        origin, head = self._heads.get(("GET", url)) or self._head("GET", url)
        return await self._ask(origin, head + b"0\r\n\r\n", timeout_seconds)

    def abandon(self, url: str) -> None:
        """Give up what is in flight to this root, as if its time were up."""
        parts = urlsplit(url)
        origin = self._origins.get((parts.scheme, parts.netloc))
        for exchange in list(self._busy):
            if exchange.origin is origin:
                exchange.check_deadline(math.inf)

    async def close(self) -> None:
        """Drop all connections."""
        self._sweep.cancel()
        for exchange in [*self._busy, *(one for origin in self._origins.values() for one in origin.idle)]:
            exchange.abort()
        # Transports close in the next round of the loop, TLS ones in the one after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _ask(self, origin: _Origin, request: bytes, timeout_seconds: float) -> Reply:
        exchange = self._reusable(origin)
        if exchange is None:
            connected = await self._connect(origin)
            if isinstance(connected, Reply):
                return connected
            exchange = connected
        self._busy.add(exchange)
        try:
            reply = await exchange.ask(request, time.monotonic() + timeout_seconds)
        except asyncio.CancelledError:
            # Its reply would be taken for that of the next request.
            exchange.abort()
            raise
        finally:
            self._busy.discard(exchange)
        if exchange.is_open:
            exchange.idle_since = time.monotonic()
            origin.idle.append(exchange)
        return reply

    def _reusable(self, origin: _Origin) -> _Exchange | None:
        oldest = time.monotonic() - self._keep_seconds
        while origin.idle:
            exchange = origin.idle.pop()
            if exchange.is_open and exchange.idle_since > oldest:
                return exchange
            exchange.abort()
        return None

    async def _connect(self, origin: _Origin) -> _Exchange | Reply:
        try:
            async with asyncio.timeout(self._connect_seconds):
                try:
                    return await self._open(origin)
                except OSError as error:
                    if error.errno not in _NO_FILES or not self._drop_idle():
                        raise
                    # The process may open no more files; those of connections that nobody uses are free now.
                    await asyncio.sleep(0)
                    return await self._open(origin)
        except TimeoutError:
            return _failure("connect", f"no connection within {self._connect_seconds:g} s")
        except ssl.SSLCertVerificationError as error:
            return _failure("connect", f"{CERTIFICATE}: {error.verify_message}")
        except OSError as error:
            # asyncio's own text names the address, which the message has already, and not the reason.
            known = isinstance(error.errno, int) and error.errno > 0
            why = os.strerror(error.errno or 0) if known else error.strerror or type(error).__name__
            return _failure("connect", why)

    async def _open(self, origin: _Origin) -> _Exchange:
        _, exchange = await self._loop.create_connection(
            lambda: _Exchange(self.buffer, self._max_reply_bytes, origin),
            origin.host,
            origin.port,
            ssl=origin.tls,
            server_hostname=origin.host if origin.tls else None,
        )
        return exchange

    def _drop_idle(self) -> bool:
        dropped = False
        for origin in self._origins.values():
            while origin.idle:
                origin.idle.popleft().abort()
                dropped = True
        return dropped

    def _trust(self) -> ssl.SSLContext:
        self._tls = self._tls or ssl.create_default_context()
        return self._tls

    def _head(self, method: str, url: str) -> tuple[_Origin, bytes]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecificationError(f"{url!r} is not an http:// or https:// address.")
        secure = parts.scheme == "https"
        origin = self._origins.setdefault(
            (parts.scheme, parts.netloc),
            _Origin(parts.hostname, parts.port or (443 if secure else 80), self._trust() if secure else None),
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{self._headers}content-length: ".encode()
        self._heads[method, url] = (origin, head)
        return origin, head

    def _look_at_the_clock(self) -> None:
        """Give up what has taken too long, and close what was idle too long: a timer a request would cost more."""
        now = time.monotonic()
        for exchange in self._busy:
            exchange.check_deadline(now)
        for origin in self._origins.values():
            while origin.idle and origin.idle[0].idle_since <= now - self._keep_seconds:
                origin.idle.popleft().abort()
        self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look_at_the_clock)


class _Exchange(asyncio.BufferedProtocol):
    """One connection, and the request that it is busy with.

    Attributes:
        origin: The address that it goes to.
        idle_since: When its last reply was complete.
    """

    def __init__(self, buffer: memoryview, max_bytes: int, origin: _Origin) -> None:
        self.origin = origin
        self._buffer, self._max_bytes = buffer, max_bytes
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._deadline = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_head = False
        self._body: list[bytes] = []
        self._size = 0
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Send a request; the reply comes with the future, whatever the network does."""
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            waiter.set_result(_failure("reset", "the connection was closed before the request was sent"))
            return waiter
        self._waiter, self._deadline = waiter, deadline
        self._transport.write(request)
        return waiter

    def check_deadline(self, now: float) -> None:
        """End the request if its time is up."""
        if now >= self._deadline:
            self._finish(_failure("timeout", "no whole reply in time"))
            self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        # Not checked: those of other event loops are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface of asyncio
        """Called by the transport."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the transport: read what came."""
        try:
            if self._waiter is None:
                raise HttpParserError("the endpoint said something before it was asked")
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserError:
            self._finish(_failure("reset", "not an HTTP reply"))
            self.abort()

    def eof_received(self) -> None:
        """Called by the transport: a reply of unknown length ends here."""
        framed = {name for name, _ in self._headers} & {b"content-length", b"transfer-encoding"}
        if self._has_head and not framed:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        self._transport = None
        self._finish(
            _failure("reset", str(exc) if exc else "the endpoint closed the connection before its reply was whole")
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)
        self._size += len(body)
        if self._size > self._max_bytes:
            self._finish(_failure("reset", too_long(self._max_bytes)))
            self.abort()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._parser.get_status_code() < 200:
            self._headers, self._has_head = [], False
            return
        self._complete()
        if not self._parser.should_keep_alive():
            self.abort()

    def _complete(self) -> None:
        status = self._parser.get_status_code()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        headers = NO_HEADERS
        if status != 200:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}
        self._finish(Reply(status, headers, body))

    def _finish(self, reply: Reply) -> None:
        waiter, self._waiter = self._waiter, None
        self._headers, self._body, self._size, self._has_head = [], [], 0, False
        if waiter is not None and not waiter.done():
            waiter.set_result(reply)


def _failure(kind: str, detail: str) -> Reply:
    return Reply(0, NO_HEADERS, failure=kind, detail=detail)


def _headers(connection: Connection) -> dict[str, str]:
    headers = {**request_headers(connection), "User-Agent": "llm-platform"}
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            raise SpecificationError(f"The header {name} of requests holds characters that HTTP does not allow.")
    return headers
