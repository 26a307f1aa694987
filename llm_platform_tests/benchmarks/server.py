"""A scripted endpoint for load: vLLM's replies, ready-made, from a process of its own.

Every reply takes the same time, so one queue in order of arrival is the whole timer. Run it by hand with
`python -m llm_platform_tests.benchmarks.server --latency 0.05`; it prints its port and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field

MODEL = "bench-8b"
MARKER = re.compile(rb"DOC#(\d{8})#")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = b"00000000"
# epoll sleeps whole milliseconds, so a reply of 50 ms would take 50.5 on average and come with its neighbours. The last
# millisecond before a reply is due is therefore spent awake.
_AWAKE_SECONDS = 0.001

ANSWER = {
    "reference": _ID.decode(),
    "topic": "delivery and returns",
    "sentiment": "mixed",
    "score": 7,
    "summary": (
        "The writer received the parcel two days late, praises the packing and the friendly help, and asks whether "
        "the damaged second item can be sent back without paying for the postage again."
    ),
}
USAGE = {
    "prompt_tokens": 596,
    "total_tokens": 686,
    "completion_tokens": 90,
    "prompt_tokens_details": {"cached_tokens": 192},
}


@dataclass(frozen=True)
class Options:
    """How the endpoint behaves.

    Attributes:
        slots: Requests that run at once; more wait, as in vLLM. 0 means no bound.
        capacity: Requests in flight above which it answers 429 at once. 0 means no bound.
        outage_after, outage_seconds: After so many answers everything gets 503 for so long. 0 seconds means never.
        label: Whether the answer is a label instead of an object of five fields.
        moods: With `label`: documents with an odd number are negative, others positive.
        close_every: After so many answers a connection is closed, as a server does that limits its connections.
        drop_every: Of so many requests one gets no answer but a closed connection.
    """

    latency: float = 0.05
    slots: int = 0
    capacity: int = 0
    outage_after: int = 0
    outage_seconds: float = 0.0
    label: bool = False
    moods: bool = False
    close_every: int = 0
    drop_every: int = 0
    core: int = -1

    def arguments(self) -> list[str]:
        """The same as a command line."""
        flags = ("label", "moods")
        given = [f"--{name.replace('_', '-')}={value}" for name, value in vars(self).items() if name not in flags]
        return given + [f"--{name}" for name in flags if getattr(self, name)]


@dataclass
class Counts:
    """What happened, seen from the endpoint."""

    requests: int = 0
    answered: int = 0
    probes: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    connections: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    outage_ended_at: float = 0.0
    asked: Counter[bytes] = field(default_factory=Counter)


def message(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """A whole reply."""
    reason = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def completion(content: str, *, chat: bool) -> bytes:
    """A reply as vLLM 0.23 sends it."""
    spoken: dict[str, object] = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
    said: dict[str, object] = {"message": spoken} if chat else {"text": content}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "stop"}
    reply = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef" if chat else "cmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1795350749,
        "model": MODEL,
        "choices": [{**choice, "stop_reason": None, "token_ids": None}],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": USAGE,
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }
    return message(200, json.dumps(reply).encode())


class Endpoint:
    """State shared by all connections."""

    def __init__(self, options: Options) -> None:
        content = "positive" if options.label else json.dumps(ANSWER)
        self.options, self.counts = options, Counts()
        self.head, _, self.tail = completion(content, chat=True).partition(_ID)
        self.odd = completion("negative", chat=True)
        self.probe = completion("1", chat=False)
        self.unavailable = message(503, b'{"error":{"message":"upstream is down","code":503}}')
        self.throttled = message(429, b'{"error":{"message":"too many requests","code":429}}')
        self.loop = asyncio.get_running_loop()
        self._running: deque[tuple[float, Connection, bytes]] = deque()
        self._waiting: deque[tuple[Connection, bytes]] = deque()
        self._outage_until: float | None = None

    def post(self, connection: Connection, data: bytes) -> None:
        """One request for a completion."""
        counts, options = self.counts, self.options
        marker = MARKER.search(data)
        failing = self._is_down()
        if marker is None:
            counts.probes += 1
            connection.send(self.unavailable if failing else self.probe)
            return
        document = marker.group(1)
        counts.requests += 1
        counts.asked[document] += 1
        counts.first_at = counts.first_at or time.time()
        if options.drop_every and counts.requests % options.drop_every == 0:
            counts.dropped += 1
            connection.drop()
        elif failing:
            counts.failed += 1
            connection.send(self.unavailable)
        elif options.capacity and counts.in_flight >= options.capacity:
            counts.refused += 1
            connection.send(self.throttled)
        else:
            counts.in_flight += 1
            counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
            if options.slots and len(self._running) >= options.slots:
                self._waiting.append((connection, document))
            else:
                self._begin(connection, document)

    def document(self, path: bytes) -> bytes:
        """What GET gives."""
        if path == b"/metrics":
            gauges = {"running": len(self._running), "waiting": len(self._waiting)}
            return message(
                200,
                "".join(
                    f'vllm:num_requests_{name}{{engine="0",model_name="{MODEL}"}} {value}.0\n'
                    for name, value in gauges.items()
                ).encode(),
                "text/plain; version=0.0.4",
            )
        if path == b"/v1/models":
            card = {"id": MODEL, "object": "model", "root": MODEL, "parent": None, "max_model_len": 32768}
            return message(200, json.dumps({"object": "list", "data": [card]}).encode())
        if path == b"/counts":
            return message(200, json.dumps(self._summary()).encode())
        return message(404, b'{"detail":"Not Found"}')

    def _begin(self, connection: Connection, document: bytes) -> None:
        if not self.options.latency:
            self._answer(connection, document)
            return
        due = self.loop.time() + self.options.latency
        self._running.append((due, connection, document))
        if len(self._running) == 1:
            self._wait()

    def _tick(self) -> None:
        now = self.loop.time()
        while self._running and self._running[0][0] <= now:
            _, connection, document = self._running.popleft()
            self._answer(connection, document)
            if self._waiting:
                following, waited = self._waiting.popleft()
                self._running.append((self.loop.time() + self.options.latency, following, waited))
        if self._running:
            self._wait()

    def _wait(self) -> None:
        awake_at = self._running[0][0] - _AWAKE_SECONDS
        if awake_at <= self.loop.time():
            self.loop.call_soon(self._tick)
        else:
            self.loop.call_at(awake_at, self._tick)

    def _answer(self, connection: Connection, document: bytes) -> None:
        self.counts.in_flight -= 1
        self.counts.answered += 1
        self.counts.last_at = time.time()
        if self.options.moods and document[-1] % 2:
            connection.send(self.odd)
        else:
            connection.send(self.head + document + self.tail if self.tail else self.head)
        connection.answered += 1
        if self.options.close_every and connection.answered >= self.options.close_every:
            connection.drop()

    def _is_down(self) -> bool:
        options, now = self.options, time.monotonic()
        if not options.outage_seconds or self.counts.answered < options.outage_after:
            return False
        if self._outage_until is None:
            self._outage_until = now + options.outage_seconds
            self.counts.outage_ended_at = time.time() + options.outage_seconds
        return now < self._outage_until

    def _summary(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counted = {name: value for name, value in vars(self.counts).items() if name != "asked"}
        return {
            **counted,
            "distinct": len(self.counts.asked),
            "asked_again": sum(1 for times in self.counts.asked.values() if times > 1),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        }


class Connection(asyncio.Protocol):
    """One client connection; requests of one connection come one after another."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._data = b""
        self._transport: asyncio.WriteTransport | None = None
        self.answered = 0

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._endpoint.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def send(self, reply: bytes) -> None:
        if self._transport is not None:
            self._transport.write(reply)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        self._data = b""
        while data:
            split = data.find(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, split) if split > 0 else None
            end = split + 4 + (int(length.group(1)) if length else 0)
            if split < 0 or len(data) < end:
                self._data = data
                return
            if data.startswith(b"POST"):
                self._endpoint.post(self, data[split:end])
            else:
                self.send(self._endpoint.document(data.split(b" ", 2)[1]))
            data = data[end:]


async def serve(options: Options) -> None:
    """Serve until standard input closes."""
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(options)
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 4096) else ended.set())
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(Options()).items():
        if name in ("label", "moods"):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = Options(**vars(parser.parse_args()))
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
