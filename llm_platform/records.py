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
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["classify", "extract", "generate"]
Api = Literal["chat", "completion"]
Decision = Literal["text", "logprobs"]
Split = Literal["train", "evaluation"]
FieldChoice = Literal["first", "last", "most", "all"]
Dialect = Literal["nim-1.x", "nim-2.x", "nim-2.x-sglang", "vllm", "hosted"]

ID_LENGTH = 16


# Kept: `json.dumps` makes one for every call, at two thirds of its cost.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def content_hash(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_LENGTH]


Kind = TypeVar("Kind", bound="Record")


class Record(BaseModel):
    """Base of all records: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def json_lines(rows: Sequence[Record]) -> list[bytes]:
    """Each record as one line of JSON, without its end."""
    return [row.model_dump_json().encode() for row in rows]


def from_json_lines(kind: type[Kind], lines: Sequence[bytes]) -> list[Kind]:
    """The records of such lines."""
    return [kind.model_validate_json(line) for line in lines]


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


class ExampleSelection(Record):
    """How each document gets its few-shot examples, from a pool that is frozen.

    Attributes:
        select: `nearest`, the most similar texts; or `random`, the same ones for every document, by a seeded order.
        pool: Content hash of the pool; its rows are in the lake.
        method: Of similarity and order; raised when equal input would get other examples.
    """

    select: Literal["random", "nearest"]
    count: int = Field(ge=1)
    pool: str
    method: str = "tfidf/1"


class PoolExample(Record):
    """One row of a frozen pool; `preferred` ones are chosen before all others."""

    document_id: str
    fingerprint: str
    text: str
    attributes: dict[str, str | None] = Field(default_factory=dict)
    answer: str
    preferred: bool = False


class Prompt(Record):
    """A prompt file, read: templates, answer words and frozen examples.

    Attributes:
        answers: For `classify`, the exact text the model is asked to produce for each label.
        examples: Few-shot examples (`answer` and the template's variables), frozen with the prompt.
        selection: How examples are chosen for each document instead, from a frozen pool.
        variables: Names of document columns that the templates read, sorted.
    """

    name: str
    api: Api
    messages: tuple[PromptMessage, ...]
    answers: dict[str, str] = Field(default_factory=dict)
    examples: tuple[dict[str, str], ...] = ()
    selection: ExampleSelection | None = None
    variables: tuple[str, ...] = ("text",)

    @property
    def version(self) -> str:
        """Content hash; the name is not part of it."""
        # Left out where there is none, so that prompts without it keep the versions under which they are stored.
        unused = {"name"} if self.selection else {"name", "selection"}
        return content_hash(self.model_dump(mode="json", exclude=unused))


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
    model: str | None = None
    revision: str | None = None
    release: str | None = None
    engine: str | None = None
    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None
    fingerprint: str | None = None


_FIRST_PINNED = frozenset({"image", "profile", "weights_sha256"})


class Calibration(Record):
    """A linear correction of label log-probabilities, fitted on the training split.

    `softmax(scale * logprobs + bias)`, label by label in the order of `labels`.
    """

    labels: tuple[str, ...]
    scale: float
    bias: tuple[float, ...]
    examples: int
    references_version: str


class LongDocuments(Record):
    """What is done with a document whose prompt does not fit the model's context; without it, it is refused.

    Attributes:
        policy: `truncate` asks about the beginning; `split` about every part, and puts the answers together.
        overlap_tokens: About so many tokens of the end of a part are read again at the start of the next one.
        priority: For `classify`: the first of these labels that any part got, instead of an average or a majority.
        fields: For `extract`: which part's value a field takes, where it is not the first one.
        prompt: Asks for one answer, given those to the parts; None where no model is needed.
        method: Of cutting and putting together; raised when equal input would give something else.
    """

    policy: Literal["truncate", "split"]
    overlap_tokens: int = 0
    priority: tuple[str, ...] = ()
    fields: dict[str, FieldChoice] = Field(default_factory=dict)
    prompt: Prompt | None = None
    method: str = "even/1"


class Release(Record):
    """Everything that determines an answer except the document.

    `request_id` leaves out what is applied after the endpoint has answered: two releases with equal `request_id` send
    the same requests, so one may be derived from the other without asking again.

    Attributes:
        serves: Of a release that only serves others: it asks about `parts` of documents, or puts the answers to them
            `together`.
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
    long_documents: LongDocuments | None = None
    serves: Literal["parts", "together"] | None = None

    def _identity(self) -> dict[str, Any]:
        identity = self.model_dump(mode="json", exclude={"prompt", "model", "calibration", "long_documents", "serves"})
        identity["prompt"] = self.prompt.version
        # Left out where there is none, too.
        if self.serves is not None:
            identity["serves"] = self.serves
        if self.long_documents is not None:
            together = self.long_documents.prompt
            rules = self.long_documents.model_dump(mode="json", exclude={"prompt"})
            identity["long_documents"] = {**rules, "prompt": together.version if together is not None else None}
        model = self.model.model_dump(mode="json", exclude={"entry"})
        # Left out where they are not pinned: releases stored before these fields existed keep their ids.
        identity["model"] = {name: value for name, value in model.items() if value is not None or name in _FIRST_PINNED}
        return identity

    @property
    def served_name(self) -> str:
        """The name that requests carry: the base model's, or its adapter's."""
        return self.model.served_name if self.adapter is None else adapter_name(self.application, self.adapter)

    @property
    def request_id(self) -> str:
        """Hash of all that is sent."""
        return content_hash(self._identity())

    @property
    def whole_id(self) -> str:
        """Hash of all that is sent about a document that fits, which every rule for long ones shares."""
        return self.model_copy(update={"long_documents": None}).request_id

    @property
    def release_id(self) -> str:
        """Hash of all that determines an answer."""
        calibration = self.calibration.model_dump(mode="json") if self.calibration else None
        return content_hash({**self._identity(), "calibration": calibration})


def adapter_name(application: str, adapter_id: str) -> str:
    """The name under which endpoints serve an adapter: equal content has one name on every endpoint."""
    return f"{application}-{adapter_id}"


class DocumentRow(Record):
    """One document to answer: key, fingerprint, and the columns that prompts may read.

    Attributes:
        prefix: Equal for documents whose prompts begin alike; None where nobody has looked.
    """

    document_id: str
    fingerprint: str
    text: str
    attributes: Mapping[str, str | None] = Field(default_factory=dict)
    prefix: int | None = None


class Completion(Record):
    """One stored answer; the key is (release_id, fingerprint).

    Attributes:
        answer: Label, canonical JSON of the fields, or text; None unless `status` is valid.
        confidence: Probability of the answer in [0, 1], where the decision gives one.
        label_logprobs: Label → natural-log probability, normalized over the labels, before calibration.
        raw: What the model said, unparsed.
        latency_seconds: From sending the request to the whole answer, last attempt.
        reason: Why there is no valid answer; of a valid one, what of the document the model has not read.
        reused: Derived from a stored answer with equal `request_id`; nothing was sent and no token paid.
        cut_tokens: Tokens of the document that were cut off, because it did not fit; None where it was read whole.
        parts: In how many parts the document was asked about; None where it was asked about at once.
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
    cut_tokens: int | None = None
    parts: int | None = None


class Trial(Record):
    """One look at a prompt that is nobody's variant yet.

    Attributes:
        against: Release that it was compared with; None where nothing is published.
        documents: How many were looked at; `sent` of them were asked for by this trial.
        score: Mean score; None where nothing could be graded.
        difference: Mean paired difference from `against`.
    """

    trial_id: str
    release_id: str
    prompt_name: str
    prompt_version: str
    against: str | None
    split: Split
    documents: int
    sent: int
    score: float | None
    difference: float | None
    p_value: float | None
    by: str
    at: datetime


class Judge(Record):
    """A rubric file, read: a model that is asked what it thinks of answers.

    A rubric that reads `answer` grades one answer. One that reads `first` and `second` says which of two is better, and
    is asked both ways round.

    Attributes:
        model: Entry of the lock file.
        verdicts: Word that the judge may say → score in [0, 1].
        explain: Characters of a reason that the judge writes before its verdict; 0 for none.
        documents: At most so many documents of a release are judged.
    """

    name: str
    model: str
    prompt: Prompt
    sampling: Sampling
    verdicts: dict[str, float]
    explain: int = 0
    documents: int = 200

    @property
    def compares(self) -> bool:
        """Whether it chooses between two answers."""
        return "first" in self.prompt.variables

    def verdict_schema(self) -> dict[str, Any]:
        """JSON schema of what it says; a reason comes first, so that the verdict can follow from it."""
        properties: dict[str, Any] = {"verdict": {"type": "string", "enum": list(self.verdicts)}}
        if self.explain:
            properties = {"reason": {"type": "string", "maxLength": self.explain}, **properties}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


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


class Ceiling(Record):
    """A maximum, and why it is that maximum."""

    maximum: float = Field(gt=0.0)
    reason: str = Field(min_length=10)


class GateResult(Record):
    """One gate held against one measured interval: it passes when `lower >= minimum`, or when `upper <= maximum`.

    Attributes:
        minimum: None for a ceiling.
        upper: Of the interval; None where only the lower bound was kept, and for a ceiling on what was not measured.
        maximum: None for a floor.
    """

    name: str
    value: float
    lower: float
    minimum: float | None = None
    upper: float | None = None
    maximum: float | None = None
    passed: bool
    reason: str
    next_step: str | None = None

    @property
    def limit(self) -> float:
        """What the bound is compared with."""
        return self.maximum if self.maximum is not None else self.minimum or 0.0

    @property
    def bound(self) -> float:
        """The end of the interval that is compared with the limit."""
        return self.upper if self.maximum is not None and self.upper is not None else self.lower

    @property
    def is_reached_by_value(self) -> bool:
        """The measured value itself is on the right side of the limit."""
        if self.maximum is not None:
            return self.upper is not None and self.value <= self.limit
        return self.value >= self.limit

    @property
    def comparison(self) -> str:
        """`lower bound 0.510, minimum 0.600`."""
        if self.maximum is not None:
            measured = "not measured" if self.upper is None else f"upper bound {self.upper:.3g}"
            return f"{measured}, maximum {self.limit:.3g}"
        return f"lower bound {self.bound:.3f}, minimum {self.limit:.3f}"


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
    """What one bulk run did, for `inference_runs`.

    Attributes:
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
    def tokens_per_second(self) -> float:
        """Prompt and completion tokens a second of wall time."""
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


class Recipe(Record):
    """How an adapter is trained: everything that decides its weights beside the base model and the examples.

    Attributes:
        rank: Inner dimension of the low-rank matrices; their scale is `2 * rank / rank`, so 2.
        target_modules: Linear layers that get them, by the last part of their name.
        epochs: Most passes over the training examples; fewer where validation stops getting better.
        learning_rate: Of AdamW, at the end of the warm-up; a cosine takes it to zero.
        batch_size: Examples of one step, however many fit into memory at once.
    """

    rank: int = Field(default=16, ge=1, le=256)
    target_modules: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    epochs: int = Field(default=3, ge=1, le=100)
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    batch_size: int = Field(default=16, ge=1, le=4096)
    seed: int = 7


class TrainingData(Record):
    """What an adapter was trained on, in numbers.

    Attributes:
        content_hash: Of every example as the model saw it, in order.
        balance: Answer (for `classify` the label) → training examples; empty where answers are free text.
        duplicates: Documents left out because another one says nearly the same.
        near_evaluation: Documents left out because an evaluation document says nearly the same.
        conflicting: Documents left out because near-duplicates carry different labels.
        split_seed: Draws validation from the training split.
        references_version, documents_snapshot: Where the examples came from; not part of any identity, since the same
            examples may come from a later snapshot.
    """

    content_hash: str
    train: int
    validation: int
    evaluation: int
    balance: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0
    near_evaluation: int = 0
    conflicting: int = 0
    split_seed: int = 0
    references_version: str = ""
    documents_snapshot: int | None = None


class Validated(Record):
    """One measurement on the validation examples.

    Attributes:
        loss: Mean negative log-likelihood of an answer token, in nats.
        accuracy: Share of examples whose every answer token is the most likely one among the known answers' tokens
            (`classify`) or in the whole vocabulary; the number that picks the best step is the loss.
    """

    step: int
    loss: float
    accuracy: float


class TrainingMetrics(Record):
    """What training measured on the way.

    Attributes:
        losses: (step, mean training loss of that step).
        validations: In order; the first is the base model before any step.
        best_step: The step whose weights were kept.
        steps: Steps done; `planned_steps` more or equal.
        stopped: Why training ended.
    """

    losses: tuple[tuple[int, float], ...] = ()
    validations: tuple[Validated, ...] = ()
    best_step: int = 0
    steps: int = 0
    planned_steps: int = 0
    stopped: Literal["finished", "no improvement", "time budget", "money budget"] = "finished"
    trained_tokens: int = 0

    @property
    def kept(self) -> Validated | None:
        """The measurement of the step whose weights were kept."""
        return next((one for one in self.validations if one.step == self.best_step), None)


class AdapterManifest(Record):
    """Everything an adapter was made from, stored beside its weights as `manifest.json`.

    `adapter_id` is the hash of all that decides the weights and of the weights themselves: identical inputs on one
    machine give the identical id, and a changed file or field shows.

    Attributes:
        base: Pin of the model that was adapted; a served base must agree with it.
        base_sha256: Of the weights that training read: the pinned file, or the safetensors of a folder.
        files: sha256 of `adapter_config.json` and `adapter_model.safetensors`.
        data: None for an adapter that was trained elsewhere.
        recipe: None for an adapter that was trained elsewhere.
        dtype: Number format of the base's weights in training.
        imported_from: Where an adapter that was trained elsewhere came from, in the words of who imported it.
        libraries: Name → version, of what computed.
        energy_joules: None where no meter was readable.
    """

    application: str
    name: str
    base: ModelPin
    base_sha256: str
    prompt_version: str | None = None
    files: dict[str, str]
    data: TrainingData | None = None
    recipe: Recipe | None = None
    dtype: str = ""
    code_version: str = ""
    metrics: TrainingMetrics | None = None
    imported_from: str | None = None
    libraries: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    wall_seconds: float = 0.0
    energy_joules: float | None = None
    cost_usd: float | None = None

    @property
    def adapter_id(self) -> str:
        """Identity of the adapter; the folder and the served name end in it."""
        lineage = {"application", "name", "created_at", "wall_seconds", "energy_joules", "cost_usd", "libraries"}
        identity = self.model_dump(mode="json", exclude=lineage)
        identity["base"] = self.base.model_dump(mode="json", exclude={"entry", "served_name"})
        if self.data is not None:
            identity["data"] = self.data.content_hash
        return content_hash(identity)


class Verdict(StrEnum):
    """What a person holds of one answer."""

    RIGHT = "right"
    WRONG = "wrong"
    CORRECTED = "corrected"
    """Wrong, and the person gave the right answer."""
    CANNOT_TELL = "cannot_tell"


ReviewRole = Literal["viewer", "reviewer", "adjudicator"]
AnnotationKind = Literal["verdict", "tag", "note", "undo"]
ReviewQueueName = Literal["disagreements", "low_confidence", "drift", "drawn", "audit", "slice", "mine", "adjudication"]
SubjectKind = Literal["document", "answer", "prompt", "run", "release"]


class ReviewQueue(Record):
    """A queue of documents as a person asks for it; `attribute` and `value` are for `slice`."""

    name: ReviewQueueName
    attribute: str | None = None
    value: str | None = None


class QueueProgress(Record):
    """How far a queue is, for one person: texts in it, those the person has judged, those that wait for the person."""

    total: int
    done: int
    waiting: int


class Annotation(Record):
    """One append-only row of `annotations`: a verdict on an answer, a tag, a note, or the taking back of a group.

    Attributes:
        group_id: Rows of one decision share it; they are taken back together.
        subject_id: Document id, prompt name, run id or release id; of an answer `<release_id>/<document_id>`.
        judged: The answer that was shown, for kind `verdict`; None where the release has no valid one.
        answer: The answer that the person holds right; None when wrong without a correction, or when unsure.
        body: The tag, or the note.
        queue: Where the person met the document, or `import`.
        blind: Whether the person did not see which variant gave which answer.
        undoes: For kind `undo`: the group, or the one row, that no longer counts.
    """

    annotation_id: str
    group_id: str
    kind: AnnotationKind
    subject_kind: SubjectKind
    subject_id: str
    document_id: str | None = None
    fingerprint: str | None = None
    release_id: str | None = None
    verdict: Verdict | None = None
    judged: str | None = None
    answer: str | None = None
    body: str | None = None
    queue: str | None = None
    blind: bool | None = None
    role: ReviewRole | None = None
    by: str
    at: datetime
    undoes: str | None = None


Rows = Sequence[Mapping[str, Any]]
