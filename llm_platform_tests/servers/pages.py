"""A few fixed answers to GET on a local port, for what is only read: health and metrics."""

from __future__ import annotations

from llm_platform_tests.servers.local import LocalServer, QuietHandler


class Pages(LocalServer):
    """Use it as a context manager.

    Attributes:
        texts: Path → status and body; 404 for the others.
    """

    def __init__(self) -> None:
        self.texts: dict[str, tuple[int, str]] = {}
        pages = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name is the library's
                status, text = pages.texts.get(self.path, (404, ""))
                self.reply(status, text.encode())

        super().__init__(Handler)
