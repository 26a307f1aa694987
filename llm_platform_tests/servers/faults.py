"""What a scripted endpoint can do instead of answering."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

REASONS = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Unavailable"}


def http_message(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **(headers or {})}.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error_body(status: int, message: str, kind: str = "InternalServerError", param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": status}}).encode()


class Fault:
    """One way to fail. `play` gets the reply that would have been sent; returns whether the connection lives on."""

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Status(Fault):
    """Another status than 200."""

    code: int
    message: str = "injected failure"
    headers: Mapping[str, str] = field(default_factory=dict)
    param: str | None = None

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        body = error_body(
            self.code, self.message, "BadRequestError" if self.code < 500 else "InternalServerError", self.param
        )
        writer.write(http_message(self.code, body, self.headers))
        return True


@dataclass(frozen=True)
class Held(Fault):
    """The whole reply, once something is so: an order that a test decides, and no clock."""

    until: Callable[[], bool]

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        while not self.until():
            await asyncio.sleep(0.005)
        writer.write(reply)
        return True


@dataclass(frozen=True)
class ResetMidBody(Fault):
    """Half of the body, then the connection is gone."""

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(reply[: len(reply) // 2])
        await writer.drain()
        writer.transport.abort()
        return False


@dataclass(frozen=True)
class Replace(Fault):
    """Status 200, or another one, with another body: truncated JSON, garbage, an HTML page."""

    body: bytes
    code: int = 200

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(http_message(self.code, self.body))
        return True


@dataclass(frozen=True)
class TruncatedJson(Fault):
    """Status 200, a content length that fits, and half of the JSON."""

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        body = reply.partition(b"\r\n\r\n")[2]
        writer.write(http_message(200, body[: len(body) // 2]))
        return True


@dataclass(frozen=True)
class Drip(Fault):
    """The right reply, a byte now and then."""

    every_seconds: float = 0.05

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        for byte in reply:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(self.every_seconds)
        return True


@dataclass(frozen=True)
class NeverAnswer(Fault):
    """Accepts the request, and that is all."""

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(3600)
        return False


@dataclass(frozen=True)
class Hangup(Fault):
    """Closes the connection without a word."""

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.transport.abort()
        return False


@dataclass(frozen=True)
class Late(Fault):
    """The right reply, or another fault, after a while."""

    seconds: float
    fault: Fault | None = None

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(self.seconds)
        if self.fault is not None:
            return await self.fault.play(reply, writer)
        writer.write(reply)
        return True
