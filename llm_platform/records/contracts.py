"""The contract with readers of a published table: what columns there are, of which type, and what is promised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_platform.records.base import Record, content_hash

ColumnType = Literal["string", "integer", "number", "boolean", "date", "timestamp", "money", "list"]

SQL_TYPES: dict[ColumnType, str] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "money": "DECIMAL(18,4)",
    "list": "VARCHAR[]",
}
Mask = Literal["hash", "redact", "drop"]
"""What readers get instead of a value: a hash that only the deployment's key can make, `REDACTED`, or no column."""
REDACTED = "[redacted]"
"""What stands in the place of a text that readers do not get; of other types it is NULL."""
ANSWER = "answer"
"""Column of an answer that is one text; of an extraction, JSON of all of its fields."""
CURRENCY = "currency"
KEY = "document_id"


class Column(Record):
    """One column.

    Attributes:
        answered: Never NULL in a row whose `status` is `valid`.
        values: The only ones that there are; empty where any may be.
        field: Of an extraction, the field of the answer that fills it; None for what is not read from the answer.
        part: `currency` for the column beside an amount of money.
        deprecated: Still filled, and gone in the next major version.
        mask: What readers get instead of its values; None where they get them.
    """

    name: str
    type: ColumnType
    description: str = ""
    answered: bool = False
    values: tuple[str, ...] = ()
    max_length: int | None = None
    field: str | None = None
    part: Literal["currency"] | None = None
    deprecated: bool = False
    mask: Mask | None = None

    def for_readers(self) -> Column:
        """The same as readers have it, masked."""
        if self.mask == "hash":
            return self.model_copy(update={"type": "string", "values": (), "max_length": None})
        if self.mask == "redact":
            kept = self.answered and self.type == "string"
            return self.model_copy(update={"answered": kept, "values": (), "max_length": None})
        return self

    @property
    def said(self) -> str:
        """What it means, with what is masked of it."""
        words = {"hash": "Masked: a keyed hash of the value.", "redact": "Masked: not shown."}
        return " ".join(filter(None, (self.description, words.get(self.mask or ""))))

    @property
    def sql_type(self) -> str:
        """Its type in the lake."""
        return SQL_TYPES[self.type]


class Contract(Record):
    """What readers of one published table are promised.

    Attributes:
        number: Of the table, `published_v<number>`: the major part of the version.
        version: Semantic version `major.minor.patch`.
        columns: Columns of answers, then those that every published table has.
        freshness_hours: A change of the source is published within that time.
        completeness: Share of documents that have an answer, at least.
        source_key: Column of the source whose values are the key; None of contracts from before it was stored.
        labels: Of an earlier contract: what a release answers → what its readers get for it.
        mask_key: Which key hashes are made with; None where there are none, or none was made yet.
    """

    application: str
    number: int = Field(ge=1)
    version: str
    title: str = ""
    description: str = ""
    owner: str = ""
    source: str = ""
    key: str = KEY
    source_key: str | None = None
    columns: tuple[Column, ...]
    freshness_hours: float | None = None
    completeness: float | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    mask_key: str | None = None

    def for_readers(self) -> Contract:
        """What readers are promised: without columns that are dropped, and the others as they are masked."""
        shown = tuple(one.for_readers() for one in self.columns if one.mask != "drop")
        return self.model_copy(update={"columns": shown})

    def in_full(self) -> Contract:
        """What those are promised who read the table without masks."""
        shown = tuple(one.model_copy(update={"mask": None}) for one in self.columns)
        return self.model_copy(update={"columns": shown, "mask_key": None})

    @property
    def masks(self) -> dict[str, Mask]:
        """Column → its mask, of those that have one."""
        return {one.name: one.mask for one in self.columns if one.mask is not None}

    @property
    def table(self) -> str:
        """Name of its table."""
        return f"published_v{self.number:d}"

    @property
    def answers(self) -> tuple[Column, ...]:
        """Columns that are read from the answer."""
        return tuple(one for one in self.columns if one.field is not None or one.name == ANSWER)

    @property
    def filling(self) -> str:
        """Hash of what decides the values: where it changes, every row is filled again."""
        shapes = [(one.name, one.type, one.field, one.part) for one in self.answers]
        return content_hash([shapes, self.labels])

    @property
    def content_id(self) -> str:
        """Hash of everything."""
        said = self.model_dump(mode="json")
        # It is what it was before there were masks, and before the key's column was stored, which the key's description
        # names: attestations and copies name it.
        del said["source_key"]
        for one in (said, *said["columns"]):
            for name in ("mask", "mask_key"):
                if one.get(name, "") is None:
                    del one[name]
        return content_hash(said)

    def column(self, name: str) -> Column | None:
        """The column of this name; None where there is none."""
        return next((one for one in self.columns if one.name == name), None)


STANDARD_COLUMNS = (
    Column(name=KEY, type="string", description="Key of the document in the source; one row for each."),
    Column(name="confidence", type="number", description="Probability of the answer, where the release gives one."),
    Column(name="release_id", type="string", description="Release that answered: all that determines an answer."),
    Column(name="variant", type="string", description="Name under which application.yaml knows that release."),
    Column(name="answered_at", type="timestamp", description="When the answer was given; NULL where there is none."),
    Column(name="status", type="string", description="'valid', or why the row has no answer, in one word."),
    Column(
        name="reason",
        type="string",
        description="Why the row, or a value of it, is NULL; of a valid row without NULL, what is to be known of it.",
    ),
    Column(name="fingerprint", type="string", description="Hash of the text that was answered."),
    Column(name="source_snapshot", type="integer", description="Snapshot of the source that the row was made from."),
    Column(name="documents_snapshot", type="integer", description="Snapshot of the lake that the row was made from."),
    Column(name="published_at", type="timestamp", description="When the row last changed."),
)
"""Columns of every published table."""


def text_contract(number: int, *, application: str = "") -> Contract:
    """The contract of a table whose answer is one text, and of tables from before contracts were stored."""
    key, *others = STANDARD_COLUMNS
    answer = Column(name=ANSWER, type="string", description="The answer; NULL where there is no valid one.")
    return Contract(application=application, number=number, version=f"{number}.0.0", columns=(key, answer, *others))
