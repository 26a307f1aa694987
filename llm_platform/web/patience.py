"""How long a server waits for who is connected: a connection that says nothing costs an open file."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 20.0
"""From the opening of a connection, or the first byte of its next request, to the end of that request."""
MOST_CONNECTIONS = 200
"""A page's: a team's browsers keep six each."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's own, which waits for ever for a request that does not come, or does not end."""

    request_seconds = REQUEST_SECONDS
    most_connections = MOST_CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the transport."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        self._end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        super().on_message_begin()
        self._begin()

    def on_message_complete(self) -> None:
        """Called by the parser when the request has come."""
        super().on_message_complete()
        self._end()

    def _begin(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_seconds, self._give_up)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abort()
