"""Ready clients of a verified model, for people's and teams' own code; every call through them is recorded."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from llm_platform.errors import RequestRejected, SpecificationError
from llm_platform.inference.engine import EndpointTarget, EnginePolicy, run_completions
from llm_platform.inference.recording import AsyncRecordingTransport, Caller, CallRecording, RecordingTransport
from llm_platform.inference.requests import RequestBuilder
from llm_platform.nim.dialects import constraint
from llm_platform.operations.serving.calls import CallRecorder
from llm_platform.prompts.render import RenderedPrompt
from llm_platform.records import (
    Call,
    Completion,
    CompletionStatus,
    DocumentRow,
    ModelPin,
    Prompt,
    PromptMessage,
    Release,
    Sampling,
    TokenUsage,
    content_hash,
    from_json_lines,
)
from llm_platform.settings.connection import Connection, trusted

if TYPE_CHECKING:
    import openai

TIMEOUT_SECONDS = 300.0
BATCH_ROWS = 1000
Messages = Sequence[Mapping[str, str]]


def openai_client(recording: CallRecording, endpoints: Sequence[str], connection: Connection) -> openai.OpenAI:
    """A client of these endpoints."""
    import openai

    proxy = _proxy(connection, endpoints[0])
    inner = httpx2.HTTPTransport(verify=trusted(connection), limits=_limits(connection), proxy=proxy)
    http = httpx2.Client(transport=RecordingTransport(inner, recording), timeout=_timeout(connection))
    return openai.OpenAI(
        base_url=f"{endpoints[0]}/v1", api_key=_key(connection), http_client=http, default_headers=_HEADERS
    )


def async_openai_client(
    recording: CallRecording, endpoints: Sequence[str], connection: Connection
) -> openai.AsyncOpenAI:
    """The same for asynchronous code."""
    import openai

    proxy = _proxy(connection, endpoints[0])
    inner = httpx2.AsyncHTTPTransport(verify=trusted(connection), limits=_limits(connection), proxy=proxy)
    http = httpx2.AsyncClient(transport=AsyncRecordingTransport(inner, recording), timeout=_timeout(connection))
    return openai.AsyncOpenAI(
        base_url=f"{endpoints[0]}/v1", api_key=_key(connection), http_client=http, default_headers=_HEADERS
    )


def complete_rows(
    rows: Mapping[str, str | Messages],
    *,
    model: ModelPin,
    targets: Sequence[EndpointTarget],
    policy: EnginePolicy,
    connection: Connection,
    sampling: Sampling,
    choices: Sequence[str],
    schema: Mapping[str, object] | None,
    caller: Caller,
    recorder: CallRecorder,
) -> list[Completion]:
    """Answers to many prompts through the bulk engine, in the order of `rows`; each is recorded like a call.

    Raises:
        EndpointUnavailable: no endpoint answers; what came back before is recorded.
        SpecificationError: both `choices` and `schema` are given.
    """
    if not rows:
        return []
    release = _release(model, sampling, choices=choices, schema=schema)
    asked = {key: _messages(row) for key, row in rows.items()}
    builder = RequestBuilder(release, constraint=constraint(release))
    done: dict[str, Completion] = {}

    def render(row: DocumentRow) -> RenderedPrompt:
        return RenderedPrompt(messages=asked[row.document_id], text=None)

    def take(lines: list[bytes]) -> None:
        for completion in from_json_lines(Completion, lines):
            done[completion.document_id] = completion
            body = _body(builder, asked[completion.document_id])
            recorder.record(_call(completion, builder.path, body, model=model, caller=caller))

    keys = list(asked)
    run_completions(
        release,
        render,
        ([_row(key) for key in keys[at : at + BATCH_ROWS]] for at in range(0, len(keys), BATCH_ROWS)),
        take,
        constraint=constraint(release),
        endpoints=targets,
        policy=policy,
        connection=connection,
        run_id=caller.run_id,
        total=len(keys),
    )
    return [done[key] for key in keys]


def _release(
    model: ModelPin, sampling: Sampling, *, choices: Sequence[str], schema: Mapping[str, object] | None
) -> Release:
    if choices and schema:
        raise SpecificationError("Both 'choices' and 'schema' are given; an answer can be held to one of them.")
    message = PromptMessage(role="user", template="{{ text }}")
    return Release(
        application="calls",
        task="classify" if choices else "extract" if schema else "generate",
        model=model,
        prompt=Prompt(name="rows", api="chat", messages=(message,), answers={text: text for text in choices}),
        sampling=sampling,
        decision="text",
        output_schema=dict(schema) if schema else None,
    )


def _row(key: str) -> DocumentRow:
    return DocumentRow(document_id=key, fingerprint=content_hash(key), text="")


def _messages(row: str | Messages) -> list[dict[str, str]]:
    return [{"role": "user", "content": row}] if isinstance(row, str) else [dict(message) for message in row]


def _body(builder: RequestBuilder, messages: list[dict[str, str]]) -> str:
    """What was sent, the first time."""
    try:
        rendered = RenderedPrompt(messages=messages, text=None)
        return builder.prepare(document_id="", fingerprint="", rendered=rendered).body.decode()
    except RequestRejected:
        return ""  # and was not sent


def _call(completion: Completion, path: str, body: str, *, model: ModelPin, caller: Caller) -> Call:
    return Call(
        call_id=uuid.uuid4().hex,
        started_at=completion.created_at - timedelta(seconds=completion.latency_seconds),
        latency_seconds=completion.latency_seconds,
        caller=caller.name,
        user=caller.user,
        run_id=caller.run_id,
        entry=model.entry,
        model=model,
        endpoint=completion.endpoint,
        path=path,
        request=body,
        status=_http_status(completion),
        answer=completion.raw,
        error=completion.reason,
        finish_reason=completion.finish_reason,
        usage=TokenUsage(
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cached_tokens=completion.cached_tokens,
            reasoning_tokens=completion.reasoning_tokens or 0,
        ),
        attempt=completion.attempts,
        git_commit=caller.git_commit,
    )


def _http_status(completion: Completion) -> int:
    if not completion.endpoint:
        return 0  # never sent
    return 400 if completion.status is CompletionStatus.REJECTED else 200


# Compressed events could not be recorded as they pass.
_HEADERS = {"Accept-Encoding": "identity"}


def _key(connection: Connection) -> str:
    # The client wants one; a self-hosted endpoint ignores it.
    return connection.bearer_token or "none"


def _proxy(connection: Connection, endpoint: str) -> str | None:
    """What the environment says for the endpoints; with a transport of one's own, the client does not ask it."""
    parts = urlsplit(endpoint)
    if not connection.environment_proxies or proxy_bypass(parts.hostname or ""):
        return None
    named = getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _limits(connection: Connection) -> httpx2.Limits:
    return httpx2.Limits(keepalive_expiry=connection.keep_alive_seconds)


def _timeout(connection: Connection) -> httpx2.Timeout:
    return httpx2.Timeout(TIMEOUT_SECONDS, connect=connection.connect_timeout_seconds)
