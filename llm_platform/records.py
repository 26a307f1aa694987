"""Rows and values that two or more stages share.

What belongs here is a value with a name in the graph (a document, a release, a completion, a score). What does not:
code that makes, stores or judges one. Identities are hashes of canonical JSON: equal content has equal ids everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["classify", "extract", "generate"]
Api = Literal["chat", "completion"]
Decision = Literal["text", "logprobs"]
Split = Literal["train", "evaluation"]
Dialect = Literal["nim-1.x", "nim-2.x"]

ID_LENGTH = 16


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_LENGTH]


class Record(BaseModel):
    """Base of all records: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DocumentStatus(StrEnum):
    """Whether a document can be sent, and if not, why."""

    SENDABLE = "sendable"
    EMPTY = "empty"
    OVERSIZED = "oversized"
    UNDECODABLE = "undecodable"


class CompletionStatus(StrEnum):
    """What became of one request."""

    VALID = "valid"
    INVALID = "invalid"
    """The endpoint answered, and the answer breaks the task's form, also after one repair."""
    TRUNCATED = "truncated"
    """The answer was cut at `max_tokens`."""
    REJECTED = "rejected"
    """The endpoint refused this request (4xx): too long, or malformed."""


class PromptMessage(Record):
    """One message template of a chat prompt, or the whole template of a text completion (role "user")."""

    role: Literal["system", "user", "assistant"]
    template: str


class Prompt(Record):
    """A prompt file, read: templates, answer words and frozen examples.

    Attributes:
        answers: For `classify`, the exact text the model is asked to produce for each label.
        examples: Few-shot examples (`answer` and the template's variables), frozen with the prompt.
        variables: Names of document columns that the templates read, sorted.
    """

    name: str
    api: Api
    messages: tuple[PromptMessage, ...]
    answers: dict[str, str] = Field(default_factory=dict)
    examples: tuple[dict[str, str], ...] = ()
    variables: tuple[str, ...] = ("text",)

    @property
    def version(self) -> str:
        """Content hash; the name is not part of it."""
        return content_hash(self.model_dump(mode="json", exclude={"name"}))


class Sampling(Record):
    """Sampling parameters, as the OpenAI-compatible API names them."""

    max_tokens: int = Field(default=16, ge=1, le=32_768)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0
    stop: tuple[str, ...] = ()


class ModelPin(Record):
    """What a lock entry says that decides an answer."""

    entry: str
    served_name: str
    dialect: Dialect
    image: str | None = None
    profile: str | None = None
    weights_sha256: str | None = None
    context_length: int


class Calibration(Record):
    """A linear correction of label log-probabilities, fitted on the training split.

    `softmax(scale * logprobs + bias)`, label by label in the order of `labels`.
    """

    labels: tuple[str, ...]
    scale: float
    bias: tuple[float, ...]
    examples: int
    references_version: str


class Release(Record):
    """Everything that determines an answer except the document.

    `request_id` leaves out what is applied after the endpoint has answered: two releases with equal `request_id` send
    the same requests, so one may be derived from the other without asking again.
    """

    application: str
    task: Task
    model: ModelPin
    adapter: str | None = None
    prompt: Prompt
    sampling: Sampling
    decision: Decision
    output_schema: dict[str, Any] | None = None
    calibration: Calibration | None = None

    def _identity(self) -> dict[str, Any]:
        identity = self.model_dump(mode="json", exclude={"prompt", "model", "calibration"})
        identity["prompt"] = self.prompt.version
        identity["model"] = self.model.model_dump(mode="json", exclude={"entry"})
        return identity

    @property
    def request_id(self) -> str:
        """Hash of all that is sent."""
        return content_hash(self._identity())

    @property
    def release_id(self) -> str:
        """Hash of all that determines an answer."""
        calibration = self.calibration.model_dump(mode="json") if self.calibration else None
        return content_hash({**self._identity(), "calibration": calibration})


class DocumentRow(Record):
    """One document to answer: key, fingerprint, and the columns that prompts may read."""

    document_id: str
    fingerprint: str
    text: str
    attributes: Mapping[str, str | None] = Field(default_factory=dict)


class Completion(Record):
    """One stored answer; the key is (release_id, fingerprint).

    Attributes:
        answer: Label, canonical JSON of the fields, or text; None unless `status` is valid.
        confidence: Probability of the answer in [0, 1], where the decision gives one.
        label_logprobs: Label → natural-log probability, normalized over the labels, before calibration.
        raw: What the model said, unparsed.
        latency_seconds: From sending the request to the whole answer, last attempt.
        reused: Derived from a stored answer with equal `request_id`; nothing was sent and no token paid.
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
    reason: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    latency_seconds: float = 0.0
    attempts: int = 1
    endpoint: str = ""
    run_id: str = ""
    documents_snapshot: int | None = None
    reused: bool = False
    created_at: datetime


class Score(Record):
    """The grade of one completion by one scorer: in [0, 1], or ungraded with a reason."""

    release_id: str
    fingerprint: str
    document_id: str
    scorer: str
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    reason: str | None = None
    references_version: str


class Interval(Record):
    """A measured share with its confidence interval."""

    value: float
    lower: float
    upper: float
    confidence: float
    count: int


class SourceState(Record):
    """How far a reader of a source table has come.

    Attributes:
        kind: `snapshot` (DuckLake), `watermark` (a column) or `file` (size and modification time).
        token: Equal tokens mean that nothing changed; compare, do not parse.
        snapshot_id: DuckLake snapshot, for kind `snapshot`.
        table_id: Identity of the table; it changes when the table is replaced.
        watermark: Largest value of the watermark column, ISO 8601 or decimal text.
    """

    kind: Literal["snapshot", "watermark", "file"]
    token: str
    snapshot_id: int | None = None
    table_id: str | None = None
    watermark: str | None = None


class DocumentsChange(Record):
    """What one update of `documents` did."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int
    snapshot_id: int

    @property
    def changed(self) -> int:
        """Documents that are not what they were."""
        return self.inserted + self.updated + self.deleted


class Gate(Record):
    """A minimum, and why it is that minimum."""

    minimum: float = Field(ge=0.0, le=1.0)
    reason: str = Field(min_length=10)


class GateResult(Record):
    """One gate held against one measured interval: it passes when `lower >= minimum`."""

    name: str
    value: float
    lower: float
    minimum: float
    passed: bool
    reason: str
    next_step: str | None = None


class RolloutEvent(Record):
    """One append-only row of `rollout`: from now on this release serves the published table."""

    application: str
    event_id: str
    action: Literal["promote", "rollback"]
    variant: str
    release_id: str
    report_id: str
    evaluation_id: str
    by: str
    at: datetime
    evidence: tuple[GateResult, ...]
    note: str = ""


class TokenUsage(Record):
    """Tokens of a set of answers."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class InferenceRun(Record):
    """What one bulk run did, for `inference_runs`."""

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
    concurrency: int = 0
    endpoints: tuple[str, ...] = ()
    latency_p50_seconds: float | None = None
    latency_p95_seconds: float | None = None
    latency_p99_seconds: float | None = None
    causes: dict[str, int] = Field(default_factory=dict)
    git_commit: str = ""

    @property
    def tokens_per_second(self) -> float:
        """Prompt and completion tokens a second of wall time."""
        return self.usage.total / self.seconds if self.seconds > 0 else 0.0


Rows = Sequence[Mapping[str, Any]]
