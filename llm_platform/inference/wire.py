"""The one interface through which the engine reaches the network, and its default.

A failed request is a value, not an exception: at thousands of requests a second most failures are expected ones, and
the engine decides what each means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, Self

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError

from llm_platform.errors import SpecificationError
from llm_platform.inference.policy import Connection

NO_HEADERS: Mapping[str, str] = {}
JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(slots=True)
class Reply:
    """What came back.

    Attributes:
        status: HTTP status, or 0 when no whole reply came.
        headers: Lower-case names; empty on success, where nobody reads them.
        failure: For status 0: `connect`, `timeout` or `reset`.
        detail: For status 0: what the network said.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str | None = None
    detail: str = ""


class Wire(Protocol):
    """Sends one request and returns the whole reply. Never raises on what the network does."""

    async def post(self, url: str, body: bytes, *, timeout_seconds: float) -> Reply:
        """Send a JSON body."""

    async def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Read a document."""

    async def close(self) -> None:
        """Drop all connections."""


class RustWire:
    """`pyreqwest`: Rust's reqwest under asyncio, about 0.1 ms of CPU per request.

    Redirects are not followed: a POST that is sent elsewhere is a mistake in the address.
    """

    def __init__(self, connection: Connection, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        builder = (
            ClientBuilder()
            .follow_redirects(False)
            .timeout(timedelta(seconds=timeout_seconds))
            .connect_timeout(timedelta(seconds=connection.connect_timeout_seconds))
            .pool_idle_timeout(timedelta(seconds=connection.keep_alive_seconds))
            .default_headers(request_headers(connection))
            .user_agent("llm-platform")
        )
        if not connection.trust_environment_proxies:
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
            response = await request.build().send()
            status = response.status
            content = (await response.bytes()).to_bytes()
        except RequestError as error:
            return _failed(error)
        if status == 200:
            return Reply(status, NO_HEADERS, content)
        return Reply(status, {name: response.get_header(name) or "" for name in ("retry-after", "location")}, content)

    async def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Read a document."""
        try:
            response = await self._client.get(url).timeout(timedelta(seconds=timeout_seconds)).build().send()
            return Reply(response.status, NO_HEADERS, (await response.bytes()).to_bytes())
        except RequestError as error:
            return _failed(error)

    async def close(self) -> None:
        """Drop all connections."""
        await self._client.close()


def request_headers(connection: Connection) -> dict[str, str]:
    """Headers of every request."""
    token = connection.bearer_token
    return {**JSON_HEADERS, "Authorization": f"Bearer {token}"} if token else JSON_HEADERS


def read_ca(connection: Connection) -> bytes:
    """The private authority's certificate.

    Raises:
        SpecificationError: the file cannot be read.
    """
    try:
        return connection.ca_file.read_bytes() if connection.ca_file else b""
    except OSError as error:
        raise SpecificationError(f"{connection.ca_file}: the CA file cannot be read ({error.strerror}).") from error


def _failed(error: RequestError) -> Reply:
    causes = [cause["message"] for cause in error.details["causes"] or []]
    # The exception's class does not tell the phase: a hang-up before the reply is a ConnectError, too.
    if any("(Connect)" in cause for cause in causes):
        failure = "connect"
    else:
        failure = "timeout" if isinstance(error, RequestTimeoutError) else "reset"
    return Reply(0, NO_HEADERS, failure=failure, detail=causes[-1] if causes else error.message)
