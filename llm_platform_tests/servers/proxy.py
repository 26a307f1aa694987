"""A forward proxy that leads every name to one endpoint, so that a name which only it knows proves the way taken."""

from __future__ import annotations

import http.client
import selectors
import socket
from urllib.parse import urlsplit

import pytest

from llm_platform_tests.servers.local import LocalServer, QuietHandler

_HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "host", "content-length"}


class Proxy(LocalServer):
    """Use it as a context manager; `seen` holds the method and the address of everything it was asked for."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[tuple[str, str]] = []
        address = urlsplit(upstream)
        to = str(address.hostname), address.port or 80
        seen = self.seen

        class Handler(QuietHandler):
            def do_CONNECT(self) -> None:  # noqa: N802
                seen.append(("CONNECT", self.path))
                with socket.create_connection(to) as onward:
                    self.send_response(200)
                    self.end_headers()
                    _pipe(self.connection, onward)

            def do_GET(self) -> None:  # noqa: N802
                seen.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                onward = http.client.HTTPConnection(*to)
                try:
                    onward.request(self.command, urlsplit(self.path).path, body or None, headers)
                    answer = onward.getresponse()
                    self.reply(answer.status, answer.read(), kind=answer.headers.get("Content-Type", ""))
                finally:
                    onward.close()

            do_POST = do_GET  # noqa: N815

        super().__init__(Handler)

    def name_in(self, environment: pytest.MonkeyPatch) -> None:
        """Let the variables name it, and nothing that is reached past it."""
        for name in ("http_proxy", "https_proxy"):
            environment.setenv(name, self.url)
        for name in ("no_proxy", "NO_PROXY"):
            environment.delenv(name, raising=False)


def _pipe(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
