"""How endpoints are reached; the same for single requests, bulk runs and the typed clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Connection:
    """How to reach endpoints.

    Attributes:
        ca_file: PEM file of a private certificate authority, trusted beside the public ones.
        environment_proxies: Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count. They are meant for
            what is outside, and a bulk run through a proxy costs more than twice the CPU a request.
        connect_timeout_seconds: For a connection, TLS included.
        keep_alive_seconds: Idle connections are dropped after this; below uvicorn's and vLLM's own five seconds, so
            that a request never meets a connection that the server is just closing.
        max_reply_bytes: A longer reply of a bulk run is given up: a peer that never stops must not fill the memory.
    """

    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    environment_proxies: bool = False
    connect_timeout_seconds: float = 10.0
    keep_alive_seconds: float = 4.0
    max_reply_bytes: int = 256 * 1024 * 1024


def endpoint_root(base_url: str) -> str:
    """The address that paths such as `/v1/models` are appended to; other tools write it with `/v1` at its end."""
    return base_url.rstrip("/").removesuffix("/v1")
