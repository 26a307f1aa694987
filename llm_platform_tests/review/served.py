"""The page on a local port, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette


@contextmanager
def served(app: Starlette, *, http: Any = "auto", waiting: int = 16) -> Iterator[str]:
    """Serve `app` for the length of a `with` block, by uvicorn's protocol `http`; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(waiting)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, http=http))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
