"""The one interface through which the engine reaches the network.

A failed request is a value, not an exception: at thousands of requests a second most failures are expected ones, and
the engine decides what each means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llm_platform.errors import SpecificationError
from llm_platform.settings.connection import Connection

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

    def abandon(self, url: str) -> None:
        """Give up what is in flight to this root, as if its time were up."""

    async def close(self) -> None:
        """Drop all connections."""


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
