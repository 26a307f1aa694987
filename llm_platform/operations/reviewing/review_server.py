"""The review page as a process: one socket, one lake, until it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import uvicorn

from llm_platform.errors import without_messages
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.reviewing.review import SECOND_OPINIONS, ReviewDesk
from llm_platform.operations.reviewing.status import platform_of
from llm_platform.review.app import review_app
from llm_platform.review.people import Access
from llm_platform.warehouse.lake import Warehouse
from llm_platform.web.listening import LOCAL_NAMES, listen
from llm_platform.web.patience import LimitedProtocol


def serve_review(
    lake: Warehouse,
    applications: Mapping[str, LoadedApplication],
    access: Access,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    second_opinions: float = SECOND_OPINIONS,
    cards_folder: Path = Path(),
    progress_folder: Path | None = None,
    namespace: str = "",
    broken: Mapping[str, str] | None = None,
) -> None:
    """Serve the page until the process is asked to stop.

    Args:
        ready: Called with the address once the page can be opened.
        port: 0 takes a free one.
        progress_folder: Where runs write down how far they are.
        cards_folder: Where runs leave report cards, in a folder for each application.
        broken: Applications that cannot be used, and why.

    Raises:
        StorageError: the address is in use or may not be listened on.
    """
    desks = {
        name: ReviewDesk(
            lake,
            loaded,
            second_opinions=second_opinions,
            cards_folder=cards_folder / name,
            progress_folder=progress_folder,
        )
        for name, loaded in applications.items()
    }
    # A page of another site can make its name point to this machine; it cannot make the browser say ours. Where people
    # are told apart by a header or a token, the browser sends neither to such a name.
    app = review_app(
        desks,
        access,
        hosts=LOCAL_NAMES if access.local is not None else ("*",),
        platform=lambda: platform_of(lake, applications, namespace=namespace, broken=broken or {}),
    )
    listening = listen(host, port, serving="the review page", waiting=128)
    name = f"[{host}]" if ":" in host else host
    # Addresses hold keys of documents; uvicorn's access log would keep them.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=LimitedProtocol,
        # A page that follows a run keeps its connection open.
        timeout_graceful_shutdown=1,
    )
    # A fault of ours is logged with its trace, and that ends with what the error says.
    logging.getLogger("uvicorn.error").addFilter(without_messages)
    ready(f"http://{name}:{listening.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listening])
