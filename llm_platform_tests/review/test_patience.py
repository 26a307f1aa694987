"""Servers under connections that say nothing."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from llm_platform.errors import without_messages
from llm_platform.nim_local.daemon import ManyClients
from llm_platform.web.patience import LimitedProtocol
from llm_platform_tests.review.served import served


class Hasty(LimitedProtocol):
    request_seconds = 0.3
    most_connections = 20


class HastyNim(ManyClients):
    request_seconds = 0.3


@contextmanager
def page(protocol: type[LimitedProtocol] = Hasty) -> Iterator[str]:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"), methods=["GET", "POST"])])
    with served(app, http=protocol, waiting=128) as url:
        yield url


@pytest.mark.parametrize("protocol", [Hasty, HastyNim])
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n", id="half-a-head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", id="half-a-body"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", id="half-a-second-request"),
    ],
)
def test_a_connection_that_stalls_is_closed(said: bytes, protocol: type[LimitedProtocol]) -> None:
    """Three hundred of them stayed open for ever."""
    with page(protocol) as url, socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=20) as stalled:
        try:
            # It may be closed before anything is said, where this process stands still meanwhile.
            stalled.sendall(said)
            while stalled.recv(4096):
                continue
            closed = True
        except (ConnectionResetError, BrokenPipeError):
            closed = True
        except TimeoutError:
            closed = False

    assert closed


def test_more_connections_than_there_are_browsers_do_not_keep_people_out() -> None:
    """What is over the limit is closed at once, and what stalls makes room."""
    with page() as url, ExitStack() as stack:
        port = urlsplit(url).port or 0
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        for _ in range(100):
            try:
                with urllib.request.urlopen(url, timeout=20) as reply:
                    found = reply.read()
                    break
            except OSError:
                threading.Event().wait(0.1)

    assert found == b"here"


def test_a_fault_of_the_page_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """A trace ends with the message of the error, and that may be a document."""
    log = logging.getLogger("faults")
    log.addFilter(without_messages)
    try:
        raise ValueError("a document")
    except ValueError:
        log.exception("Exception in ASGI application: %s", "a document")
    finally:
        log.removeFilter(without_messages)

    assert "ValueError at" in caplog.text
    assert "test_patience.py" in caplog.text
    assert "a document" not in caplog.text
