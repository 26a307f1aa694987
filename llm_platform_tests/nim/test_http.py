"""Single requests to an endpoint: what comes back, and what is said when nothing does."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import certifi
import pytest

from llm_platform.errors import EndpointUnavailable
from llm_platform.nim.http import EndpointClient
from llm_platform.settings.connection import Connection

NAMED = b"Mueller, 12 Main St"


@contextmanager
def answering(reply: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """A server that sends the same bytes to everyone; its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with closing(peer):
                    peer.recv(65536)
                    try:
                        for piece in reply():
                            peer.sendall(piece)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b"x" * 4096


def of_length(count: int) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * count])


def no_http() -> Iterator[bytes]:
    yield NAMED + b" is no status line\r\n\r\n"


@pytest.fixture(params=["rust", "openssl"])
def how(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Connection]:
    """Both clients: the one for a private authority reads replies by itself."""
    authority = tmp_path / "authority.pem"
    end = "-----END CERTIFICATE-----\n"
    block = Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0].rpartition("-----BEGIN")[2]
    authority.write_text(f"-----BEGIN{block}{end}", encoding="ascii")
    return lambda most: Connection(
        max_reply_bytes=most, reply_timeout_seconds=20, ca_file=authority if request.param == "openssl" else None
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_reply_without_end_is_given_up(method: str, how: Callable[[int], Connection]) -> None:
    """A health check of a wrong address must not fill the memory of the machine."""
    with (
        answering(endless) as url,
        EndpointClient(how(10_000)) as client,
        pytest.raises(EndpointUnavailable, match=f"{method} http.*: the reply is longer than 10000 bytes"),
    ):
        client.get(url) if method == "GET" else client.post(url, {})


def test_a_reply_of_just_that_length_is_read(how: Callable[[int], Connection]) -> None:
    """The limit is what may come, not one less."""
    with answering(of_length(10_000)) as url, EndpointClient(how(10_000)) as client:
        assert client.get(url) == (200, b"x" * 10_000)


def test_what_is_no_http_is_told_in_our_words(how: Callable[[int], Connection]) -> None:
    """The parser of a library quotes the line that it could not read, which may be a document's."""
    with (
        answering(no_http) as url,
        EndpointClient(how(10_000)) as client,
        pytest.raises(EndpointUnavailable, match="Is the endpoint running") as caught,
    ):
        client.get(url)

    assert "Mueller" not in "".join(traceback.format_exception(caught.value))
