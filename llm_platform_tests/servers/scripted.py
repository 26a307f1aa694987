"""A scripted endpoint: a real HTTP server on a local port, with replies shaped like vLLM's.

Documents are told apart by a marker in the prompt, `DOC#<id>#`, so that tests count on the endpoint's side: how often
each document was asked for and how often it was answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from llm_platform_tests.servers.faults import Fault, Status, error_body, http_message

MARKER = re.compile(rb"DOC#([^#]+)#")
MODEL = "scripted-model"


@dataclass(frozen=True)
class Seen:
    """One request, as a script sees it.

    Attributes:
        number: How many requests came before it.
        times: How often this document was asked for before.
    """

    document_id: str
    number: int
    times: int
    path: str
    body: Mapping[str, Any]


Script = Callable[[Seen], Fault | None]


@dataclass
class Counts:
    """What the endpoint was asked, and what it answered."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    probes: int = 0
    refused: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    running: int = 0
    waiting: int = 0
    connections: int = 0
    tokenized: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()


def no_fault(_: Seen) -> Fault | None:
    return None


def echo_id(seen: Seen) -> str:
    return f"answer to {seen.document_id}"


class ScriptedServer:
    """Use it as a context manager.

    Args:
        answer: Text of the answer to a request.
        script: What goes wrong, if anything.
        latency_seconds: Time that one answer takes in a slot.
        slots: Requests that run at once; more wait, as in vLLM.
        capacity: Requests in flight above which it answers 429.
        logprobs: Token → log-probability listed for the first token.
        keep_bodies: Whether to keep request bodies and headers, for tests that look at them.
        peft_source: Folder whose sub-folders are listed as adapters.
        tokenizes: Whether it has `/tokenize`.

    Attributes:
        silent: Whether it accepts everything and answers nothing, as a machine that is half dead.
        loads_adapters: Whether it has vLLM's calls to load and unload one; what it loaded stands in `loaded`.
    """

    def __init__(
        self,
        *,
        answer: Callable[[Seen], str] = echo_id,
        script: Script = no_fault,
        latency_seconds: float = 0.0,
        slots: int | None = None,
        capacity: int | None = None,
        retry_after: str | None = None,
        logprobs: Mapping[str, float] | None = None,
        finish_reason: str = "stop",
        metrics: bool = True,
        keep_bodies: bool = False,
        tls: ssl.SSLContext | None = None,
        peft_source: Path | None = None,
        loads_adapters: bool = False,
        tokenizes: bool = True,
    ) -> None:
        self.answer, self.script, self.latency_seconds = answer, script, latency_seconds
        self.version: str | None = None
        self.logprobs, self.finish_reason = logprobs, finish_reason
        self.counts = Counts()
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.silent = False
        self._slots_count, self._capacity, self._retry_after = slots, capacity, retry_after
        self._metrics, self._keep, self._tls = metrics, keep_bodies, tls
        self._peft_source, self._loads_adapters = peft_source, loads_adapters
        self._tokenizes = tokenizes
        self.loaded: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-server", daemon=True)
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def die(self) -> None:
        """Drop every connection and stop listening."""
        self._call(self._shut())

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._call(self._open())

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in the server's thread after a while; `die_now` and `open_now` are meant for this."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, action)

    def die_now(self) -> None:
        """`die`, from the server's own thread."""
        self._task = self._loop.create_task(self._shut())

    def open_now(self) -> None:
        """`come_back`, from the server's own thread."""
        self._task = self._loop.create_task(self._open())

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _open(self) -> None:
        self._slots = asyncio.Semaphore(self._slots_count) if self._slots_count else None
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=4096, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            # asyncio forgets a connection that it has accepted and not yet set up when its server is closed.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._server.close()
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _end(self) -> None:
        """`_shut`, and nothing is under way afterwards: connections that were being accepted are dropped, too."""
        await self._shut()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        # A transport that was aborted closes its socket in the next round.
        await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or not self._server.is_serving():
            # Accepted before it died, and told of afterwards.
            writer.transport.abort()
            return
        handler = self._loop.create_task(self._serve(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        # Not in the handler: one that is cancelled before its first step never gets there.
        handler.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.connections += 1
        try:
            alive = True
            while alive:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, path, _ = lines[0].split(" ", 2)
                headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if self._keep:
                    self.bodies.append(body)
                    self.headers.append(headers)
                alive = await self._respond(method, path, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _respond(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if self.silent:
            await asyncio.sleep(3600)
        if method == "GET":
            writer.write(self._document(path))
            return True
        request = json.loads(body)
        marker = None if path == "/tokenize" else MARKER.search(body)
        if marker is None:
            return await self._probe(path, request, writer)
        document_id = marker.group(1).decode()
        counts = self.counts
        seen = Seen(document_id, counts.requests, counts.asked[document_id], path, request)
        counts.asked[document_id] += 1
        if self._capacity is not None and counts.in_flight >= self._capacity:
            counts.refused += 1
            refused = Status(429, "too many requests", {"Retry-After": self._retry_after} if self._retry_after else {})
            return await refused.play(b"", writer)
        return await self._in_slot(seen, writer)

    async def _in_slot(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        counts = self.counts
        counts.in_flight += 1
        counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        try:
            if self._slots is not None:
                counts.waiting += 1
                try:
                    await self._slots.acquire()
                finally:
                    counts.waiting -= 1
            counts.running += 1
            try:
                if self.latency_seconds:
                    await asyncio.sleep(self.latency_seconds)
            finally:
                counts.running -= 1
                if self._slots is not None:
                    self._slots.release()
            fault = self.script(seen)
            reply = http_message(200, self._completion(seen))
            if fault is not None:
                return await fault.play(reply, writer)
            writer.write(reply)
            counts.answered[seen.document_id] += 1
            return True
        finally:
            counts.in_flight -= 1

    async def _probe(self, path: str, request: Mapping[str, Any], writer: asyncio.StreamWriter) -> bool:
        if path == "/tokenize" and not self._tokenizes:
            writer.write(http_message(404, error_body(404, "Not Found", "NotFoundError")))
            return True
        if path == "/tokenize":
            self.counts.tokenized += 1
            # One token per word, numbered by its text: enough to tell answers apart.
            tokens = [sum(word.encode()) for word in str(request.get("prompt") or request["messages"]).split()]
            writer.write(http_message(200, json.dumps({"count": len(tokens), "tokens": tokens}).encode()))
            return True
        if path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            writer.write(self._adapter_call(path, request))
            return True
        self.counts.probes += 1
        seen = Seen("", self.counts.requests, 0, path, request)
        fault = self.script(seen)
        reply = http_message(200, self._completion(seen))
        if fault is not None:
            return await fault.play(reply, writer)
        writer.write(reply)
        return True

    def _adapter_call(self, path: str, request: Mapping[str, Any]) -> bytes:
        name = request["lora_name"]
        if not self._loads_adapters:
            return http_message(404, error_body(404, "Not Found", "NotFoundError"))
        if path == "/v1/unload_lora_adapter":
            if self.loaded.pop(name, None) is None:
                return http_message(
                    404, error_body(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
                )
            return http_message(200, f"Success: LoRA adapter '{name}' removed successfully.".encode())
        if not (Path(request["lora_path"]) / "adapter_config.json").is_file():
            return http_message(404, error_body(404, f"No adapter found for '{request['lora_path']}'", "NotFoundError"))
        self.loaded[name] = request["lora_path"]
        return http_message(200, f"Success: LoRA adapter '{name}' added successfully.".encode())

    def _document(self, path: str) -> bytes:
        if path == "/metrics" and self._metrics:
            labels = f'{{engine="0",model_name="{MODEL}"}}'
            text = (
                f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {self.counts.running}.0\n"
                f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{labels} {self.counts.waiting}.0\n"
            )
            return http_message(200, text.encode(), {"Content-Type": "text/plain"})
        if path == "/v1/models":
            card = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": "/models/x", "parent": None}
            cards = [{**card, "max_model_len": 4096}, *self._adapter_cards()]
            return http_message(200, json.dumps({"object": "list", "data": cards}).encode())
        if path == "/health":
            return http_message(200, b"")
        if path == "/version" and self.version is not None:
            return http_message(200, json.dumps({"version": self.version}).encode())
        return http_message(404, error_body(404, "Not Found", "NotFoundError"))

    def _adapter_cards(self) -> list[dict[str, Any]]:
        source = self._peft_source
        found = sorted(source.iterdir()) if source is not None and source.is_dir() else []
        names = [path.name for path in found if path.is_dir() and not path.name.startswith(".")]
        named = dict.fromkeys(sorted({*names, *self.loaded}))
        return [
            {"id": name, "object": "model", "root": self.loaded.get(name, f"/loras/{name}"), "parent": MODEL}
            for name in named
        ]

    def _completion(self, seen: Seen) -> bytes:
        text = self.answer(seen)
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": self.finish_reason,
            "stop_reason": None,
            "logprobs": None,
        }
        chat = seen.path.endswith("/chat/completions")
        if chat:
            choice["message"] = {"role": "assistant", "content": text, "tool_calls": []}
            if self.logprobs is not None:
                top = [{"token": token, "logprob": value, "bytes": None} for token, value in self.logprobs.items()]
                choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        else:
            choice["text"] = text
            if self.logprobs is not None:
                choice["logprobs"] = {"top_logprobs": [dict(self.logprobs)]}
        return json.dumps(
            {
                "id": "chatcmpl-0123456789abcdef" if chat else "cmpl-0123456789abcdef",
                "object": "chat.completion" if chat else "text_completion",
                "created": 1795350749,
                "model": MODEL,
                "choices": [choice],
                "usage": {
                    "prompt_tokens": 40,
                    "total_tokens": 45,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 16},
                },
            }
        ).encode()
