"""The fallback wire, on Rust's reqwest: proxies and HTTP/2, at two and a half times the CPU of the default."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError
from pyreqwest.response import Response

from llm_platform.inference.wire import NO_HEADERS, Reply, read_ca, request_headers
from llm_platform.settings.causes import failure_of, too_long
from llm_platform.settings.connection import Connection


class RustWire:
    """`pyreqwest`, Rust's reqwest under asyncio.

    Redirects are not followed: a POST that is sent elsewhere is a mistake in the address.
    """

    def __init__(self, connection: Connection, *, timeout_seconds: float) -> None:
        self._timeout_seconds, self._max_bytes = timeout_seconds, connection.max_reply_bytes
        builder = (
            ClientBuilder()
            .follow_redirects(False)
            .timeout(timedelta(seconds=timeout_seconds))
            .connect_timeout(timedelta(seconds=connection.connect_timeout_seconds))
            .pool_idle_timeout(timedelta(seconds=connection.keep_alive_seconds))
            .default_headers(request_headers(connection))
            .user_agent("llm-platform")
        )
        if not connection.environment_proxies:
            builder = builder.no_proxy()
        if connection.ca_file is not None:
            builder = builder.add_root_certificate_pem(read_ca(connection))
        self._client: Client = builder.build()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def post(self, url: str, body: bytes, *, timeout_seconds: float) -> Reply:
        """Send a JSON body."""
        request = self._client.post(url).body_bytes(body)
        if timeout_seconds != self._timeout_seconds:
            request = request.timeout(timedelta(seconds=timeout_seconds))
        try:
            async with request.build_streamed() as response:
                content = await self._whole(response)
        except RequestError as error:
            return _failed(error)
        if content is None:
            return self._too_long()
        if response.status == 200:
            return Reply(response.status, NO_HEADERS, content)
        headers = {name: response.get_header(name) or "" for name in ("retry-after", "location")}
        return Reply(response.status, headers, content)

    async def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Read a document."""
        try:
            request = self._client.get(url).timeout(timedelta(seconds=timeout_seconds))
            async with request.build_streamed() as response:
                content = await self._whole(response)
        except RequestError as error:
            return _failed(error)
        return self._too_long() if content is None else Reply(response.status, NO_HEADERS, content)

    async def _whole(self, response: Response) -> bytes | None:
        """The body; None once it is longer than replies may be."""
        pieces, size = [], 0
        while (piece := await response.body_reader.read_chunk()) is not None:
            size += len(piece)
            if size > self._max_bytes:
                return None
            pieces.append(piece.to_bytes())
        return b"".join(pieces)

    def _too_long(self) -> Reply:
        return Reply(0, NO_HEADERS, failure="reset", detail=too_long(self._max_bytes))

    def abandon(self, url: str) -> None:
        """Nothing: each request of this client ends at its own deadline."""

    async def close(self) -> None:
        """Drop all connections."""
        await self._client.close()


def _failed(error: RequestError) -> Reply:
    causes = [cause["message"] for cause in error.details["causes"] or []]
    failure, detail = failure_of(causes, timed_out=isinstance(error, RequestTimeoutError))
    return Reply(0, NO_HEADERS, failure=failure, detail=detail)
