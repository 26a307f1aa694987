"""The specification of an application, as pydantic models.

`application.yaml` is read by `load_application` in `llm_platform.application`, which turns every mistake into a line
of `file:line: what was found, what is allowed`. The models here hold the shapes and the rules between fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from llm_platform.application.cron import cron_mistake
from llm_platform.application.source_text import text_columns
from llm_platform.records import Ceiling, Decision, FieldChoice, Gate, Recipe, RedactionRule, Sampling, Task
from llm_platform.records.contracts import ColumnType, Mask
from llm_platform.records.rollout import OnChampionFailure, RolloutGuards, RolloutPolicy, RolloutStage
from llm_platform.redaction.kinds import PACKAGE, installed

NAME_PATTERN = r"^[a-z][a-z0-9_]{1,47}$"
OWNER = re.compile(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
"""What Dagster takes for an owner."""
FieldType = Literal["string", "integer", "number", "boolean", "date", "money", "list", "enum"]
ReadSplit = Literal["train", "evaluation", "unused"]
Looks = Literal["once", "any"]
ADDED_GATES = ("macro_f1", "kappa", "labels", "fields", "metrics")
"""Gates that evidence from before they existed was not held against: left out of its identity where not stated."""
PLAIN_SCORERS = ("exact", "normalized", "set", "fields", "token_f1", "rouge_l", "semantic", "regex", "json_schema")
SCORERS_WITH_ARGUMENT = ("regex", "json_schema", "judge")
JUDGE = "judge"


FILE_COLUMNS = ("path", "text", "title", "pages", "page_starts", "media_type", "sha256", "bytes", "modified")
"""Columns of documents that are files."""


class Specification(BaseModel):
    """Base of the models of a specification file: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TableRef(Specification):
    """A table that others write: a named warehouse and a table in it, or files (CSV, Parquet, JSONL): one, a folder, a
    pattern, on this machine or `s3://`."""

    warehouse: str | None = None
    table: str | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        self._require_place()
        return self

    def _require_place(self) -> None:
        if self.url is not None and (self.warehouse or self.table):
            raise ValueError("give either 'url' or 'warehouse' and 'table', not both")
        if self.url is None and not (self.warehouse and self.table):
            raise ValueError("give 'url' (a CSV, Parquet or JSONL file), or 'warehouse' and 'table'")

    @property
    def address(self) -> str:
        """The place in one word, for messages and asset keys."""
        return self.url if self.url is not None else f"{self.warehouse}.{self.table}"

    @property
    def place_key(self) -> str:
        """The key of `application.yaml` that names it."""
        return "url" if self.url is not None else "table"


class Source(TableRef):
    """The table of documents.

    Attributes:
        text: The column that holds the text of a document; or several, joined by a blank line; or a template of them,
            such as `"{{ title }}: {{ body }}"`. Prompts, baseline, drift and reviewers read the same text.
        files: Instead of a table, a folder, a pattern or an `s3://` prefix of files, each one document. Its key is its
            path in there, and its columns are those of `FILE_COLUMNS`.
        look_minutes: The sensor looks at the source at most that often, and whenever it is notified.
        max_drop: Share of its rows that the table may lose from one look to the next; 20 rows always may. More is held
            until somebody confirms it.
        slot: Of a table in Postgres, the logical replication slot that tells which keys have changed. Nobody else reads
            it.
        publication: What the slot is read with; it has the table.
    """

    key: str
    text: str | tuple[str, ...]
    files: str | None = None
    attributes: tuple[str, ...] = ()
    watermark: str | None = None
    slot: str | None = Field(default=None, pattern=r"^[a-z0-9_]{1,63}$")
    publication: str = "llm_platform"
    look_minutes: float | None = Field(default=None, gt=0.0)
    max_drop: float = Field(default=0.2, ge=0.0, le=1.0)

    @model_validator(mode="before")
    @classmethod
    def _of_files(cls, value: Any) -> Any:
        """A file is its path and its text, unless something else is said."""
        return {"key": "path", "text": "text", **value} if isinstance(value, dict) and value.get("files") else value

    @field_validator("text", "attributes", mode="before")
    @classmethod
    def _of_a_list(cls, value: Any) -> Any:
        # Behind a validator of the whole mapping, strict reading takes no list for a tuple.
        return tuple(value) if isinstance(value, list) else value

    def _require_place(self) -> None:
        if self.slot is not None and (self.warehouse is None or self.watermark is not None):
            raise ValueError("'slot' is of a table in Postgres ('warehouse' and 'table'), and without a 'watermark'")
        if self.files is None:
            super()._require_place()
            return
        if self.url is not None or self.warehouse or self.table:
            raise ValueError("give either 'files' (one document each) or a table: 'url', or 'warehouse' and 'table'")
        unknown = [name for name in (*self.columns, self.watermark) if name not in (None, *FILE_COLUMNS)]
        if unknown or self.key != "path" or self.watermark is not None:
            raise ValueError(
                f"of 'files' the key is 'path', there is no watermark, and columns are {', '.join(FILE_COLUMNS)}"
            )

    @property
    def address(self) -> str:
        """The place in one word, for messages and asset keys."""
        return self.files if self.files is not None else super().address

    @property
    def place_key(self) -> str:
        """The key of `application.yaml` that names it."""
        return "files" if self.files is not None else super().place_key

    @model_serializer(mode="wrap")
    def _what_documents_are_made_of(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what only says when and whether it is read: where that changes, no document is another one."""
        left_out = {"max_drop", "look_minutes", "slot", "publication", *(() if self.files is not None else ("files",))}
        return {name: value for name, value in dump(self).items() if name not in left_out}

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that the text is made of, each once."""
        return text_columns(self.text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that becomes part of a document, each once: key, text, attributes."""
        return tuple(dict.fromkeys((self.key, *self.text_columns, *self.attributes)))

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that writers of JSON leave out where they are null."""
        return tuple(name for name in self.columns if name not in (self.key, *self.text_columns))


class Documents(Specification):
    """How rows of the source become documents."""

    max_characters: int = Field(default=20_000, ge=1)
    buckets: int = Field(default=16, ge=1, le=4096)


class Redaction(Specification):
    """What is taken out of documents before they are stored, and so before anything is made of them.

    Attributes:
        kinds: What Presidio's patterns find, by its names.
        patterns: A kind of the application's own → regular expression, such as that of the numbers of its cases.
        minimum_score: Of a finding, in [0, 1]. Numbers of few digits have less, unless a word such as "passport" stands
            before them.
        phone_regions: Countries whose telephone numbers are found without a country code.
        put_back: Keep what was taken out beside the document, and put it into the answers that readers get. Without it
            it is stored nowhere, and answers keep the placeholders.
    """

    kinds: tuple[str, ...] = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN")
    patterns: dict[str, str] = Field(default_factory=dict)
    minimum_score: float = Field(default=0.35, gt=0.0, le=1.0)
    phone_regions: tuple[str, ...] = ("US", "GB", "DE", "FR")
    put_back: bool = False

    def rule(self) -> RedactionRule:
        """What decides what is taken out, with the version of what finds it."""
        return RedactionRule(
            kinds=self.kinds,
            patterns=self.patterns,
            minimum_score=self.minimum_score,
            phone_regions=self.phone_regions,
            recognizers=installed() or PACKAGE,
        )


class LongDocumentRules(Specification):
    """What is done with a document whose prompt does not fit the model's context; `long_documents: split` for short.

    Attributes:
        policy: `reject` stores a refusal; `truncate` asks about the beginning, and says so on the answer; `split` asks
            about every part, and puts the answers together.
        overlap_tokens: About so many tokens of the end of a part are read again at the start of the next one.
        priority: For `classify`: the answer is the first of these labels that any part got. Without it, the label with
            the highest probability on average, or with decision `text` the commonest.
        fields: For `extract`: which part's value a field takes: the `first` that has one, the `last`, the commonest
            (`most`), or of a list `all`. Without it, the first, and of a list all.
        prompt: Prompt file that makes one answer from `{{ parts }}`, the answers to the parts; `generate` needs it.
    """

    policy: Literal["reject", "truncate", "split"] = "reject"
    overlap_tokens: int = Field(default=64, ge=0, le=4096)
    priority: tuple[str, ...] = ()
    fields: dict[str, FieldChoice] = Field(default_factory=dict)
    prompt: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_word(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @field_validator("priority", mode="before")
    @classmethod
    def _of_a_list(cls, value: Any) -> Any:
        # Behind a validator of the whole mapping, strict reading takes no list for a tuple.
        return tuple(value) if isinstance(value, list) else value


class References(TableRef):
    """Known answers. With no `split` column, the split is drawn with `seed` and `train_share`.

    Attributes:
        labels: For `classify`: what the table calls a label → the label. What is not named stands for itself.
        fields: For `extract`: column of the table (or key of the object in `answer`) → field. A field that is not named
            has a column of its own name.
        splits: What the table calls a split → ours; `unused` rows are left out. What is not named stands for itself.
    """

    key: str
    answer: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)
    split: str | None = None
    splits: dict[str, ReadSplit] = Field(default_factory=dict)
    seed: int = 7
    train_share: float = Field(default=0.5, ge=0.0, lt=1.0)


class OutputField(Specification):
    """One typed field of an `extract` answer; of type `enum`, one of `values`."""

    type: FieldType
    description: str = ""
    required: bool = True
    max_length: int | None = Field(default=None, ge=1)
    values: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """What evidence rests on; without what is not stated, so that evidence from before a key existed stays."""
        return self.model_dump(mode="json", exclude=set() if self.values else {"values"})


class Variant(Specification):
    """A named way to answer: a prompt file on a model of the lock file."""

    prompt: str
    model: str
    adapter: str | None = None
    sampling: Sampling = Sampling()
    decision: Decision = "text"
    calibrate: bool = False
    repair: bool = True


class Predictions(Specification):
    """A file of another system's answers, one row a document; the file's name for short.

    Attributes:
        url: CSV, Parquet or JSON Lines, relative to the application's folder.
        answer: Its column; without it `answer`, or for `extract` one column a field.
        confidence: Column of a probability in [0, 1].
        labels: For `classify`: what the file calls a label → the label. What is not named stands for itself.
        fields: For `extract`: column (or key of the object in `answer`) → field.
    """

    url: str
    key: str = "document_id"
    answer: str | None = None
    confidence: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_one_word(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    def answer_columns(self, task: Task, fields: Sequence[str]) -> dict[str, str]:
        """Field → column for an extraction without `answer`; else `answer` → its column."""
        if task == "extract" and self.answer is None:
            column_of = {name: column for column, name in self.fields.items()}
            return {name: column_of.get(name, name) for name in fields}
        return {"answer": self.answer or "answer"}


class RecordedVariant(Specification):
    """A variant that asks nothing: what another system answered, to be judged beside those that do."""

    predictions: Predictions


class Finetuning(Recipe):
    """A LoRA adapter to be trained for one prompt on one model of the lock file.

    Attributes:
        examples: How many labelled documents to train on at most, validation included; None takes all.
        validation_share: Part of them that is not trained on and picks the best step.
        max_minutes: Training stops there, with the best step so far.
        max_cost_usd: The same in money, at the price of the lock entry.
    """

    prompt: str
    model: str
    examples: int | None = Field(default=None, ge=20)
    validation_share: float = Field(default=0.15, gt=0.0, le=0.5)
    max_minutes: float = Field(default=60.0, gt=0.0)
    max_cost_usd: float | None = Field(default=None, gt=0.0)

    def recipe(self) -> Recipe:
        """What decides the weights, beside the base model and the examples."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


class SliceGate(Specification):
    """A minimum for every slice of at least `documents` evaluated documents, and why it is that minimum."""

    minimum: float = Field(ge=0.0, le=1.0)
    documents: int = Field(default=30, ge=2)
    reason: str = Field(min_length=10)


class RegressionGate(Specification):
    """How much worse than the champion, on the same documents, a release may be, and why that much."""

    margin: float = Field(ge=0.0, lt=1.0)
    reason: str = Field(min_length=10)


class LabelGates(Specification):
    """Minimums for one label: how many of the answers that give it are right, how many of its documents get it."""

    precision: Gate | None = None
    recall: Gate | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.precision is None and self.recall is None:
            raise ValueError("give 'precision', 'recall' or both, each with 'minimum' and 'reason'")
        return self


class MetricGate(Specification):
    """A limit for a further scorer or a metric of the application's own, and why it is that limit."""

    minimum: float | None = None
    maximum: float | None = None
    reason: str = Field(min_length=10)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("give 'minimum' or 'maximum', and not both")
        return self


class Gates(Specification):
    """Limits that each measure's interval must clear before a release may be published.

    Attributes:
        confidence: Of the two-sided intervals whose bounds are compared.
        looks: `once` when the decision is taken at a size of the evaluation set that was fixed before; `any` when
            people look after every batch of labels: the intervals then hold at all looks together, and are wider.
        accuracy: Minimum for the score of the first scorer.
        macro_f1: For `classify`, as `kappa` (agreement with the references beyond chance) and `labels` are.
        fields: For `extract`: a minimum for the score of a field.
        metrics: By the name of a further scorer, or of the function of an own metric.
    """

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    looks: Looks = "once"
    accuracy: Gate | None = None
    valid_rate: Gate | None = None
    slices: SliceGate | None = None
    regression: RegressionGate | None = None
    judge_agreement: Gate | None = None
    macro_f1: Gate | None = None
    kappa: Gate | None = None
    labels: dict[str, LabelGates] = Field(default_factory=dict)
    fields: dict[str, Gate] = Field(default_factory=dict)
    metrics: dict[str, MetricGate] = Field(default_factory=dict)
    cost_usd_per_document: Ceiling | None = None
    cost_usd_per_correct_answer: Ceiling | None = None
    latency_p95_seconds: Ceiling | None = None
    latency_seconds_per_correct_answer: Ceiling | None = None


class Evaluation(Specification):
    """How answers are judged.

    Attributes:
        scorers: The first one is what gates and comparisons use; empty takes the scorer of the task.
        slices: Attributes whose values are reported one by one.
        cluster: Attribute whose equal values mark documents that are not independent, such as a customer's; without it
            documents that differ only in punctuation, case and white space are.
        metrics: The application's own metrics, `module:function`.
        panels: The application's own panels of the report card, `module:function`.
    """

    scorers: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    cluster: str | None = None
    metrics: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    gates: Gates


class MonthlyBudget(Specification):
    """What all runs of a calendar month (UTC) may use together.

    Attributes:
        tokens: Of prompts and answers.
        cost_usd: At the prices of the lock entries.
    """

    tokens: int | None = Field(default=None, ge=1)
    cost_usd: float | None = Field(default=None, gt=0.0)

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.tokens is not None or self.cost_usd is not None


class Budget(Specification):
    """What one run may use, for all variants and judges together; what is left stays missing for the next run.

    Nothing is sent that may take it beyond this: what a request may take is reserved first.

    Attributes:
        tokens: Of prompts and answers.
        minutes: In which an endpoint was there to be asked.
        cost_usd: At the prices of the lock entries.
        month: What the runs of a month may use together.
    """

    tokens: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0.0)
    cost_usd: float | None = Field(default=None, gt=0.0)
    month: MonthlyBudget = Field(default_factory=MonthlyBudget)

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.month.is_set or any(limit is not None for limit in (self.tokens, self.minutes, self.cost_usd))


class Drift(Specification):
    """When newer documents, or the answers to them, count as different from those that the champion was judged on.

    A measurement has drifted when its test, corrected for the number of tests, falls under `alpha`, and its effect is
    larger than its limit: with many documents everything is significant, with few every effect is large.

    Attributes:
        reference_texts: At most so many texts from before the boundary, drawn by hash.
        current_texts: At most so many texts from after it, the newest.
        minimum_texts: With fewer in either window the answer is "cannot tell".
        alpha: Chance of any false alarm in one look.
        psi: Limit of the population stability index: lengths, languages, answers, confidences.
        share: Limit of a difference of two shares: unknown words, refusals, invalid answers.
        separation: Limit of the AUC with which a classifier tells newer texts from older ones; 0.5 is chance.
    """

    reference_texts: int = Field(default=2000, ge=20, le=20_000)
    current_texts: int = Field(default=1000, ge=20, le=20_000)
    minimum_texts: int = Field(default=100, ge=20)
    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    psi: Ceiling = Ceiling(maximum=0.2, reason="Under 0.1 credit scorecards count as unchanged, over 0.25 as changed.")
    share: Ceiling = Ceiling(maximum=0.05, reason="One document in twenty is what readers of totals begin to notice.")
    separation: Ceiling = Ceiling(maximum=0.65, reason="At an AUC of 0.65 two of three pairs of texts are told apart.")


class Labelling(Specification):
    """Which live documents are asked to be labelled: each by chance, with a probability that is stored.

    Attributes:
        audit_share: Probability of every document; it makes the accuracy of the rest measurable.
        low_confidence_share: Probability of a document whose answer has a confidence below `low_confidence_below`.
        drifted_share: Probability of a document that is flagged as unlike the reference window.
    """

    seed: int = 7
    audit_share: float = Field(default=0.02, gt=0.0, le=1.0)
    low_confidence_below: float = Field(default=0.6, ge=0.0, le=1.0)
    low_confidence_share: float = Field(default=0.1, ge=0.0, le=1.0)
    drifted_share: float = Field(default=0.5, ge=0.0, le=1.0)


class Monitoring(Specification):
    """What is watched once a release serves.

    Attributes:
        since: Boundary between the reference window and the current one; None is the promotion of the serving release.
    """

    since: AwareDatetime | None = None
    drift: Drift = Drift()
    labelling: Labelling = Labelling()


class Review(Specification):
    """What people who judge answers are told beside every document.

    Attributes:
        guidelines: How to judge, in a few paragraphs; an empty line begins a new one.
        labels: Label → when it is right, for `classify`.
    """

    guidelines: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class Rollout(Specification):
    """Who decides what is published, and how a challenger comes into use.

    Attributes:
        first_champion: `automatic` lets the best passing variant become the first champion; every later change is a
            `promote`, or goes through the stages.
        stages: Of every rollout, in their order; none where a change is a `promote`.
        dry_run: Rollouts decide and report, and change nothing.
        guards: Limits that champion and challengers are held to, and what is done beyond them.
        on_champion_failure: What is done when the champion falls below its gates or guards: publish nothing new, go
            back to what served before, or publish and say so.
    """

    first_champion: Literal["automatic", "manual"] = "automatic"
    stages: tuple[RolloutStage, ...] = ()
    dry_run: bool = False
    guards: RolloutGuards = RolloutGuards()
    on_champion_failure: OnChampionFailure = "hold"

    @property
    def is_watched(self) -> bool:
        """Whether there is anything that a look could decide without a person."""
        return bool(self.stages) or self.guards != RolloutGuards() or self.on_champion_failure != "hold"

    @property
    def policy(self) -> RolloutPolicy | None:
        """The stages as rollouts go by them; None where none are stated."""
        return RolloutPolicy(stages=self.stages, dry_run=self.dry_run) if self.stages else None


class PublishedColumn(Specification):
    """What is said of one column of the published table.

    Attributes:
        type: Has to be the type that the column has; stated, so that a change of it is seen where it is read.
        field: Of an extraction, the field that fills it; without it, the field of the same name.
        deprecated: Still filled, and gone in the next contract.
    """

    description: str = ""
    type: ColumnType | None = None
    field: str | None = None
    deprecated: bool = False


class ContractBeside(Specification):
    """A published table that is still filled beside the present one.

    Attributes:
        retired: On this day (UTC) the table and its copies are removed; None fills it until a day is stated.
        fields: Column of that table → field of the present answer that fills it, where it is not the same one.
        labels: Present label → what readers of that table get for it.
    """

    retired: date | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class Consumer(Specification):
    """Somebody who reads the published table, and with which queries.

    Attributes:
        queries: Files of SQL, relative to the application's folder.
        dialect: Of SQL, as sqlglot calls it.
    """

    queries: tuple[str, ...] = Field(min_length=1)
    dialect: str = "duckdb"
    owner: str = ""


class Publish(Specification):
    """The contract with readers.

    Attributes:
        contract: Number of the published table, and the major part of the contract's version.
        version: Semantic version of the contract. Without it the platform counts: a column that is added is a minor
            version, words are a patch.
        owner: Who answers for it; without it, the application's first owner.
        columns: What is said of columns, by name.
        freshness_hours: A change of the source is published within that time.
        completeness: Share of documents that have an answer, at least.
        beside: Number of another contract → until when its table is filled, and from what.
        copies: Places outside the lake that readers use, kept as the published tables are: a folder, an `s3://` prefix,
            or `postgres:` and a connection string of libpq.
        full_copies: The same kinds of places, for those who read the table without masks.
        masks: Column → what readers get instead of its values; in every copy and every table.
        consumers: Those whose queries are held against every change, by name.
        assets: The application's own Dagster assets that read the published table, `module:function`.
    """

    contract: int = Field(default=1, ge=1)
    version: str | None = Field(default=None, pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")
    description: str = ""
    owner: str | None = None
    columns: dict[str, PublishedColumn] = Field(default_factory=dict)
    freshness_hours: float | None = Field(default=None, gt=0.0)
    completeness: float | None = Field(default=None, ge=0.0, le=1.0)
    beside: dict[str, ContractBeside] = Field(default_factory=dict)
    copies: tuple[str, ...] = ()
    full_copies: tuple[str, ...] = ()
    masks: dict[str, Mask] = Field(default_factory=dict)
    consumers: dict[str, Consumer] = Field(default_factory=dict)
    assets: tuple[str, ...] = ()


class StatedTimes(Specification):
    """When something is done whether or not anything has changed: times as cron writes them, in `timezone`.

    Attributes:
        run: The everyday job: what a sensor did not see is taken up.
        full: The same, reading, counting and comparing everything (`run --full`).
        drift: Drift, and which live documents should be labelled.
    """

    run: str | None = None
    full: str | None = None
    drift: str | None = None
    timezone: str = "UTC"

    @property
    def stated(self) -> dict[str, str]:
        """What is done → when."""
        found = {"run": self.run, "full": self.full, "drift": self.drift}
        return {name: when for name, when in found.items() if when is not None}

    @field_validator("run", "full", "drift")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None and (mistake := cron_mistake(value)) is not None:
            raise ValueError(f"found {mistake}")
        return value

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"time zone {self.timezone!r} is not known; write one such as Europe/Berlin") from None
        return self


class Online(Specification):
    """What becomes of documents that callers send to `llm-platform serve`.

    Attributes:
        keep_documents: Whether they become documents, to be sampled, reviewed and trained on. They are not published.
    """

    keep_documents: bool = False


RetainedTable = Literal["documents", "completions", "retried_completions", "trials", "reads"]


class Retention(Specification):
    """What becomes of text that is not needed any more.

    Attributes:
        deleted: Of a document that leaves the source: `keep` what was made of it, or `forget` all of it at once.
        days: Table → days after which a row goes; a document that has not changed for so long is forgotten. Answers to
            documents that there are stay: they would only be asked again.
    """

    deleted: Literal["keep", "forget"] = "keep"
    days: dict[RetainedTable, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class Application(Specification):
    """One use of an LLM over one source table.

    Attributes:
        recordings: Those of `variants` in the file that have `predictions`.
        folder: Where the files were read; filled in by the loader, not a key of the file.
    """

    name: str = Field(pattern=NAME_PATTERN)
    title: str
    description: str = ""
    owners: tuple[str, ...] = ()
    task: Task
    labels: tuple[str, ...] = ()
    fields: dict[str, OutputField] = Field(default_factory=dict)
    source: Source
    documents: Documents = Documents()
    redaction: Redaction | None = None
    long_documents: LongDocumentRules = LongDocumentRules()
    references: References | None = None
    variants: dict[str, Variant] = Field(min_length=1)
    finetuning: dict[str, Finetuning] = Field(default_factory=dict)
    evaluation: Evaluation
    rollout: Rollout = Rollout()
    publish: Publish = Publish()
    monitoring: Monitoring = Monitoring()
    schedules: StatedTimes = StatedTimes()
    online: Online = Online()
    review: Review = Review()
    retention: Retention = Retention()
    max_failed_share: float = Field(default=0.1, ge=0.0, le=1.0)
    budget: Budget = Budget()
    recordings: dict[str, RecordedVariant] = Field(default_factory=dict, exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def judged(self) -> tuple[str, ...]:
        """Names of everything that is judged: variants that ask, then recorded ones."""
        return (*self.variants, *self.recordings)

    def reference_columns(self) -> tuple[str, ...]:
        """Columns that known answers are read from: key, answer or one column a field, split."""
        spec = self.references
        if spec is None:
            return ()
        column_of = {field: column for column, field in spec.fields.items()}
        answers = [spec.answer] if spec.answer else [column_of.get(name, name) for name in self.fields]
        return tuple(dict.fromkeys((spec.key, *answers, *([spec.split] if spec.split else []))))

    def output_schema(self) -> dict[str, Any] | None:
        """JSON schema of an `extract` answer; None for the other tasks."""
        if self.task != "extract":
            return None
        return output_schema(self.fields)


def with_recordings_apart(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a file, with variants that were recorded under `recordings`.

    Only the others have a prompt, a model and a cost, so whoever asks, estimates or trains has to do with those alone.
    """
    variants = data.get("variants")
    if not isinstance(variants, dict):
        return data
    recorded = {name: one for name, one in variants.items() if isinstance(one, dict) and "predictions" in one}
    if not recorded:
        return data
    asking = {name: one for name, one in variants.items() if name not in recorded}
    return {**data, "variants": asking, "recordings": recorded}


def output_schema(fields: Mapping[str, OutputField]) -> dict[str, Any]:
    """JSON schema of an object with these fields and no other."""
    properties = {name: _property(field) for name, field in fields.items()}
    required = [name for name, field in fields.items() if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_JSON_TYPES = {"date": "string", "money": "string", "list": "array", "enum": "string"}


def scorer_parts(text: str) -> tuple[str, str | None]:
    """A scorer of `application.yaml` as its kind and its argument; `own` is the kind of a team's `module:function`.

    Raises:
        ValueError: it is no scorer; the message says what one is.
    """
    kind, colon, argument = text.partition(":")
    if not colon and kind in PLAIN_SCORERS:
        return kind, None
    if colon and argument and kind in SCORERS_WITH_ARGUMENT:
        return kind, argument
    if colon and argument.isidentifier() and all(part.isidentifier() for part in kind.split(".")):
        return "own", text
    raise ValueError(f"{', '.join(PLAIN_SCORERS)}, regex:PATTERN, json_schema:FILE, judge:NAME or module:function")


def _property(field: OutputField) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": _JSON_TYPES.get(field.type, field.type)}
    if field.type == "date":
        shape["pattern"] = r"^\d{4}-\d{2}-\d{2}$"
    if field.type == "list":
        shape["items"] = {"type": "string"}
    if field.type == "enum":
        shape["enum"] = [*field.values, *([] if field.required else [None])]
    if field.max_length is not None:
        shape["maxLength"] = field.max_length
    if field.description:
        shape["description"] = field.description
    if not field.required:
        shape["type"] = [shape["type"], "null"]
    return shape
