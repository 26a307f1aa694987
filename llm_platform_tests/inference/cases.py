"""Releases, prompts and short ways to run the engine, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_platform.inference.core import EngineResult, complete
from llm_platform.inference.meter import Progress
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import PreparedRequest, RequestBuilder
from llm_platform.inference.wire_http import HttpWire
from llm_platform.nim.dialects import constraint
from llm_platform.records import (
    Api,
    Completion,
    Decision,
    Dialect,
    ModelPin,
    Prompt,
    PromptMessage,
    Release,
    Sampling,
    Task,
    from_json_lines,
)
from llm_platform.settings.connection import Connection
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer

ANSWERS = {"HAPPY": " positive", "SAD": " negative"}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "count": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
# Small times, so that tests of failure are quick; the shape is that of the defaults. What a reply and the end of a run
# may take is long: a machine that stands still for seconds must not look like an endpoint that does.
QUICK = EnginePolicy(
    limit=16,
    request_timeout_seconds=60.0,
    backoff_seconds=0.02,
    backoff_cap_seconds=0.1,
    attempts_seconds=0.1,
    probe_seconds=0.05,
    probe_cap_seconds=0.1,
    probe_timeout_seconds=30.0,
    unavailable_after_seconds=20.0,
    drain_seconds=30.0,
    batch_rows=50,
    flush_seconds=0.05,
    progress_seconds=0.05,
    seed=1,
)


@dataclass(frozen=True)
class Rendered:
    messages: Sequence[dict[str, str]] | None = None
    text: str | None = None
    cut_tokens: int | None = None


def release(
    task: Task = "generate",
    *,
    api: Api = "chat",
    decision: Decision = "text",
    dialect: Dialect = "nim-2.x",
    answers: dict[str, str] | None = None,
    sampling: Sampling | None = None,
    **more: Any,
) -> Release:
    prompt = Prompt(
        name="test",
        api=api,
        messages=(PromptMessage(role="user", template="{{ text }}"),),
        answers=(ANSWERS if answers is None else answers) if task == "classify" else {},
    )
    return Release(
        application="test",
        task=task,
        model=ModelPin(entry="test", served_name=MODEL, dialect=dialect, context_length=4096),
        prompt=prompt,
        sampling=sampling or Sampling(),
        decision=decision,
        output_schema=SCHEMA if task == "extract" else None,
        **more,
    )


def requests(asked: Release, count: int) -> Iterator[PreparedRequest]:
    builder = RequestBuilder(asked, constraint=constraint(asked))
    for number in range(count):
        text = f"DOC#{number}# What is this about?"
        rendered = (
            Rendered(messages=[{"role": "user", "content": text}])
            if asked.prompt.api == "chat"
            else Rendered(text=text)
        )
        yield builder.prepare(document_id=str(number), fingerprint=f"f{number}", rendered=rendered)


@dataclass
class Outcome:
    """What one engine run gave, with checks that most tests make."""

    result: EngineResult
    rows: list[Completion] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return sorted((row.document_id for row in self.rows), key=int)

    def stored_once(self, count: int) -> bool:
        return self.ids == [str(number) for number in range(count)]


def ask(
    servers: ScriptedServer | Sequence[ScriptedServer],
    count: int,
    *,
    asked: Release | None = None,
    policy: EnginePolicy = QUICK,
    on_lines: Callable[[list[bytes]], None] | None = None,
    targets: Sequence[EndpointTarget] | None = None,
    discover: Callable[[], Sequence[EndpointTarget]] | None = None,
    stop_when: Callable[[Progress], bool] | None = None,
    prepared: Sequence[PreparedRequest] | None = None,
) -> Outcome:
    """Run the engine over `count` documents in a loop of its own."""
    asked = asked or release()
    listed = [servers] if isinstance(servers, ScriptedServer) else list(servers)
    rows: list[Completion] = []
    seen: list[Progress] = []

    async def run() -> EngineResult:
        stop = asyncio.Event()

        def watch(progress: Progress) -> None:
            seen.append(progress)
            if stop_when is not None and stop_when(progress):
                stop.set()

        async with HttpWire(Connection()) as wire:
            return await complete(
                requests(asked, count) if prepared is None else prepared,
                release=asked,
                endpoints=targets or [EndpointTarget(server.url) for server in listed],
                wire=wire,
                policy=policy,
                on_lines=on_lines or (lambda lines: rows.extend(from_json_lines(Completion, lines))),
                on_progress=watch,
                stop=stop,
                total=count,
                discover=discover,
            )

    return Outcome(asyncio.run(run()), rows, seen)
