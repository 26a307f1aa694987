"""Answers, and what was paid for them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llm_platform.records.base import Record
from llm_platform.records.releases import ModelPin

Tokens = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a column of 64 bits holds: a row with more could not be stored, and would stand in the way of all others."""
Few = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class CompletionStatus(StrEnum):
    """What became of one request."""

    VALID = "valid"
    INVALID = "invalid"
    """The endpoint answered, and the answer breaks the task's form, also after one repair."""
    TRUNCATED = "truncated"
    """The answer was cut at `max_tokens`."""
    REJECTED = "rejected"
    """The endpoint refused this request (4xx): too long, or malformed."""
    FAILED = "failed"
    """Every request about this document failed, while the endpoint answered others."""


class Completion(Record):
    """One stored answer; the key is (release_id, fingerprint).

    Attributes:
        answer: Label, canonical JSON of the fields, or text; None unless `status` is valid.
        confidence: Probability of the answer in [0, 1], where the decision gives one.
        label_logprobs: Label → natural-log probability, normalized over the labels, before calibration.
        raw: What the model said, unparsed.
        said: What the endpoint said instead of an answer; it may repeat the document, and is shown nowhere else.
        latency_seconds: From sending the request to the whole answer, last attempt.
        reason: Why there is no valid answer; of a valid one, what of the document the model has not read.
        reused: Derived from a stored answer with equal `request_id`; nothing was sent and no token paid.
        cut_tokens: Tokens of the document that were cut off, because it did not fit; None where it was read whole.
        parts: In how many parts the document was asked about; None where it was asked about at once.
        reasoning_tokens: Of the completion tokens, those of the model's thought; None in rows of older versions.
    """

    release_id: str
    request_id: str
    fingerprint: str
    document_id: str
    status: CompletionStatus
    answer: str | None
    confidence: float | None = None
    label_logprobs: dict[str, float] | None = None
    raw: str = ""
    said: str | None = None
    reason: str | None = None
    finish_reason: str | None = None
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    latency_seconds: float = 0.0
    attempts: Few = 1
    endpoint: str = ""
    run_id: str = ""
    documents_snapshot: int | None = None
    reused: bool = False
    created_at: datetime
    cut_tokens: Tokens | None = None
    parts: Few | None = None
    reasoning_tokens: Tokens | None = None


class TokenUsage(Record):
    """Tokens of a set of answers; `cached_tokens` are of the prompts, `reasoning_tokens` of the completions."""

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class InferenceRun(Record):
    """What one bulk run did, for `inference_runs`.

    Attributes:
        seconds: While an endpoint was there to be asked.
        waited_seconds: While none was: neither speed nor cost. None in runs of older versions, which did not tell.
        presumed_tokens: Counted against a budget for requests whose replies do not say what they took.
        concurrency: Most requests that were in flight at once.
        limits: Endpoint → requests that it could have in flight at the end.
        idle_share: Share of the endpoints' slots that had nothing to do, in [0, 1]; None where they do not say.
        causes: Why rows have no valid answer, why requests were repeated, what stopped the run → how often.
    """

    run_id: str
    release_id: str
    started_at: datetime
    seconds: float
    sent: int
    stored: int
    reused: int
    failed: int
    retries: int
    usage: TokenUsage
    wasted_tokens: int = 0
    presumed_tokens: int | None = None
    waited_seconds: float | None = None
    concurrency: int = 0
    endpoints: tuple[str, ...] = ()
    latency_p50_seconds: float | None = None
    latency_p95_seconds: float | None = None
    latency_p99_seconds: float | None = None
    limits: dict[str, int] = Field(default_factory=dict)
    idle_share: float | None = None
    causes: dict[str, int] = Field(default_factory=dict)
    git_commit: str = ""

    @property
    def budget_tokens(self) -> int:
        """Tokens that count against a budget."""
        return self.usage.total + (self.presumed_tokens or 0)

    @property
    def tokens_per_second(self) -> float:
        """Prompt and completion tokens a second of the time in which an endpoint was there."""
        return self.usage.total / self.seconds if self.seconds > 0 else 0.0


class Call(Record):
    """One request that a person's or a team's own code sent through a client of ours, and what came back.

    Attributes:
        caller: `asset <key>`, `notebook`, or `program <name>`.
        endpoint: Root of the endpoint that was asked.
        path: Path of the request below it, e.g. `/v1/chat/completions`.
        request: The body as it was sent: messages, parameters, tools.
        status: HTTP status; 0 when no reply came.
        answer: Text of the first answer, or its tool calls as JSON; None where there is none.
        response: The body that came back; of a stream, its events put together.
        complete: Whether the reply was read to its end.
        attempt: 1 for the first, more where the client tried again.
    """

    call_id: str
    started_at: datetime
    latency_seconds: float
    caller: str
    user: str = ""
    run_id: str = ""
    entry: str
    model: ModelPin
    endpoint: str
    path: str
    request: str
    status: int
    answer: str | None = None
    response: str | None = None
    streamed: bool = False
    complete: bool = True
    error: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage = TokenUsage()
    attempt: int = 1
    git_commit: str = ""
