"""Where alerts arrive in tests: a real HTTP server and a real SMTP server on local ports."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import threading
from email.message import EmailMessage
from typing import Any, Self

from llm_platform_tests.servers.local import LocalServer, QuietHandler


class HttpInbox(LocalServer):
    """Takes POSTs; a context manager.

    Attributes:
        status: What it answers; 200 takes a message.
        body: What it answers with.
        received: Path, headers and JSON of every POST, refused ones too.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: dict[str, Any] = {"ok": True}
        self.received: list[tuple[str, dict[str, str], Any]] = []
        inbox = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802 - the name is the library's
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                inbox.received.append((self.path, headers, json.loads(raw)))
                self.reply(inbox.status, json.dumps(inbox.body).encode(), kind="application/json")

        super().__init__(Handler)


class MailInbox:
    """Speaks as much SMTP as a relay without a login does; a context manager.

    Attributes:
        refuses: Answers 550 to these recipients.
        received: (sender, recipients, message) of every mail that was taken.
    """

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        self.received: list[tuple[str, list[str], EmailMessage]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _shut(self) -> None:
        self._server.close()
        # Whoever was served last closes its connection a little later than the sender has gone on.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()

        def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())

        say("220 inbox ready")
        while line := (await reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            address = rest[rest.find("<") + 1 : rest.find(">")]
            if verb.upper() in ("EHLO", "HELO"):
                say("250 inbox")
            elif verb.upper() == "MAIL":
                sender, recipients = address, []
                say("250 OK")
            elif verb.upper() == "RCPT":
                recipients += [] if address in self.refuses else [address]
                say("550 no such mailbox" if address in self.refuses else "250 OK")
            elif verb.upper() == "DATA":
                say("354 go on")
                body = await reader.readuntil(b"\r\n.\r\n")
                message = email.message_from_bytes(body[:-5], policy=email.policy.default)
                assert isinstance(message, EmailMessage)
                self.received.append((sender, recipients, message))
                say("250 taken")
            elif verb.upper() == "RSET":
                say("250 OK")
            else:
                say("221 bye")
                break
        await writer.drain()
        writer.close()
