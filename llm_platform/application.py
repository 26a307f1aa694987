"""The specification of an application, as pydantic models.

`application.yaml` is read by `load_application` in `llm_platform.specification`, which turns every mistake into a line
of `file:line: what was found, what is allowed`. The models here hold the shapes and the rules between fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_platform.records import Decision, Gate, Sampling, Task

NAME_PATTERN = r"^[a-z][a-z0-9_]{1,47}$"
FieldType = Literal["string", "integer", "number", "boolean", "date"]


class Specification(BaseModel):
    """Base of the models of a specification file: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TableRef(Specification):
    """A table that others write: a named warehouse and a table in it, or a file (CSV, Parquet, JSONL) or its URL."""

    warehouse: str | None = None
    table: str | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and (self.warehouse or self.table):
            raise ValueError("give either 'url' or 'warehouse' and 'table', not both")
        if self.url is None and not (self.warehouse and self.table):
            raise ValueError("give 'url' (a CSV, Parquet or JSONL file), or 'warehouse' and 'table'")
        return self

    @property
    def address(self) -> str:
        """The place in one word, for messages and asset keys."""
        return self.url if self.url is not None else f"{self.warehouse}.{self.table}"


class Source(TableRef):
    """The table of documents."""

    key: str
    text: str
    attributes: tuple[str, ...] = ()
    watermark: str | None = None


class Documents(Specification):
    """How rows of the source become documents."""

    max_characters: int = Field(default=20_000, ge=1)
    buckets: int = Field(default=16, ge=1, le=4096)


class References(TableRef):
    """Known answers. With no `split` column, the split is drawn with `seed` and `train_share`."""

    key: str
    answer: str | None = None
    split: str | None = None
    seed: int = 7
    train_share: float = Field(default=0.5, ge=0.0, lt=1.0)


class OutputField(Specification):
    """One typed field of an `extract` answer."""

    type: FieldType
    description: str = ""
    required: bool = True
    max_length: int | None = Field(default=None, ge=1)


class Variant(Specification):
    """A named candidate: a prompt file on a model of the lock file."""

    prompt: str
    model: str
    sampling: Sampling = Sampling()
    decision: Decision = "text"
    calibrate: bool = False
    repair: bool = True


class Gates(Specification):
    """Minimums that the lower bound of each measure must reach before a release may be published."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    accuracy: Gate | None = None
    valid_rate: Gate | None = None


class Evaluation(Specification):
    """How answers are judged."""

    slices: tuple[str, ...] = ()
    gates: Gates


class Rollout(Specification):
    """Who decides what is published.

    `automatic` lets the best passing candidate become the first champion; every later change is a `promote`.
    """

    first_champion: Literal["automatic", "manual"] = "automatic"


class Publish(Specification):
    """The contract with readers."""

    contract: int = Field(default=1, ge=1)


class Application(Specification):
    """One use of an LLM over one source table.

    Attributes:
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
    references: References | None = None
    variants: dict[str, Variant] = Field(min_length=1)
    evaluation: Evaluation
    rollout: Rollout = Rollout()
    publish: Publish = Publish()
    max_failed_share: float = Field(default=0.1, ge=0.0, le=1.0)
    folder: Path = Field(default=Path(), exclude=True)

    def output_schema(self) -> dict[str, Any] | None:
        """JSON schema of an `extract` answer; None for the other tasks."""
        if self.task != "extract":
            return None
        properties = {name: _property(field) for name, field in self.fields.items()}
        required = [name for name, field in self.fields.items() if field.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _property(field: OutputField) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "string" if field.type == "date" else field.type}
    if field.type == "date":
        shape["pattern"] = r"^\d{4}-\d{2}-\d{2}$"
    if field.max_length is not None:
        shape["maxLength"] = field.max_length
    if field.description:
        shape["description"] = field.description
    if not field.required:
        shape["type"] = [shape["type"], "null"]
    return shape
