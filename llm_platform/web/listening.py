"""The socket of a server of ours."""

from __future__ import annotations

import socket

from llm_platform.errors import StorageError

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
"""Names of this machine in the Host of a request: a page of another site can make no other one point here."""


def listen(host: str, port: int, *, serving: str, waiting: int | None = None) -> socket.socket:
    """A socket at an address.

    Args:
        host: An address of either family, or a name.
        port: 0 takes a free one.
        serving: What is served there, for the message: `the review page`.
        waiting: How many connections may wait to be taken; None leaves that to who takes them.

    Raises:
        StorageError: the address is in use or may not be listened on.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        if waiting is not None:
            listening.listen(waiting)
    except OSError as error:
        listening.close()
        raise StorageError(
            f"Cannot serve {serving} on {host}:{port}: {error.strerror}. Choose another --port, or 0 for a free one."
        ) from error
    return listening
