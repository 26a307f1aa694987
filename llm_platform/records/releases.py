"""Prompts, pinned models, and the release that they make."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from llm_platform.records.base import Record, content_hash

Task = Literal["classify", "extract", "generate"]
Api = Literal["chat", "completion"]
Decision = Literal["text", "logprobs"]
FieldChoice = Literal["first", "last", "most", "all"]
Dialect = Literal["nim-1.x", "nim-2.x", "nim-2.x-sglang", "vllm", "hosted"]


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
        mended: Of a prompt whose examples were forgotten since, the version under which it was stored.
    """

    name: str
    api: Api
    messages: tuple[PromptMessage, ...]
    answers: dict[str, str] = Field(default_factory=dict)
    examples: tuple[dict[str, str], ...] = ()
    selection: ExampleSelection | None = None
    variables: tuple[str, ...] = ("text",)
    mended: str | None = None

    @property
    def version(self) -> str:
        """Content hash; the name is not part of it."""
        if self.mended is not None:
            return self.mended
        # Left out where there is none, so that prompts without it keep the versions under which they are stored.
        unused = {"name", "mended"} if self.selection else {"name", "mended", "selection"}
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


class RedactionRule(Record):
    """What is taken out of documents before anything is made of them.

    Attributes:
        kinds: What is found, as Presidio names it.
        patterns: Kind of the application's own → regular expression.
        minimum_score: Of a finding, in [0, 1].
        phone_regions: Countries whose numbers are found without a country code.
        recognizers: Name and version of what finds them: another version has other patterns.
        method: Of searching and placing; raised when the same text would be redacted otherwise.
    """

    kinds: tuple[str, ...]
    patterns: dict[str, str] = Field(default_factory=dict)
    minimum_score: float
    phone_regions: tuple[str, ...]
    recognizers: str
    method: str = "numbered/2"

    @property
    def rule_id(self) -> str:
        """Content hash."""
        return content_hash(self.model_dump(mode="json"))


class Recorded(Record):
    """That answers were given by another system, and are not asked for.

    Attributes:
        address: Where they were read, for people; no part of any identity.
        content: SHA-256 of the file.
        mapping: Hash of how its columns and values are read.
    """

    address: str
    content: str
    mapping: str


class Release(Record):
    """Everything that determines an answer except the document.

    `request_id` leaves out what is applied after the endpoint has answered: two releases with equal `request_id` send
    the same requests, so one may be derived from the other without asking again.

    Attributes:
        serves: Of a release that only serves others: it asks about `parts` of documents, or puts the answers to them
            `together`.
        recorded: Of answers that another system gave; prompt, model and sampling then say nothing.
        redaction: What was taken out of documents when the release was made.
        reading: How the answer is found in what a model says: `bare/1` leaves out the thought before it and a fence
            around it. Raised when equal input would be read otherwise.
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
    recorded: Recorded | None = None
    redaction: RedactionRule | None = None
    reading: Literal["bare/1"] = "bare/1"

    def _identity(self) -> dict[str, Any]:
        # The first way of reading is left out: what it takes for an answer, earlier versions took for one or for none.
        later = {"prompt", "model", "calibration", "long_documents", "serves", "recorded", "redaction", "reading"}
        identity = self.model_dump(mode="json", exclude=later)
        identity["prompt"] = self.prompt.version
        # Left out where there is none, too.
        if self.recorded is not None:
            identity["recorded"] = {"content": self.recorded.content, "mapping": self.recorded.mapping}
        if self.redaction is not None:
            identity["redaction"] = self.redaction.rule_id
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
