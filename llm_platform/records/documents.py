"""Documents and the state of the table they came from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from llm_platform.records.base import Record


class DocumentStatus(StrEnum):
    """Whether a document can be sent, and if not, why."""

    SENDABLE = "sendable"
    EMPTY = "empty"
    OVERSIZED = "oversized"
    UNDECODABLE = "undecodable"


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


class SourceState(Record):
    """How far a reader of a source table has come.

    Attributes:
        kind: `snapshot` (DuckLake), `watermark` (a column), `slot` (of Postgres) or `file` (content, or size and time).
        token: Equal tokens mean that nothing changed; compare, do not parse.
        snapshot_id: DuckLake snapshot, for kind `snapshot`.
        table_id: Identity of the table; it changes when the table is replaced.
        watermark: Largest value of the watermark column, ISO 8601 or decimal text.
        hashes: Of the rows that are read once more after it, by buckets of keys, packed; None where they are few.
        files: Of a folder, which files it had, packed.
        lsn: How far the WAL was read, for kind `slot`, as Postgres writes it.
        goes_back: Whether it lies behind the state that was stored before it, since the source was restored from a
            backup; without that, a run that was overtaken would have written it.
    """

    kind: Literal["snapshot", "watermark", "slot", "file"]
    token: str
    snapshot_id: int | None = None
    table_id: str | None = None
    watermark: str | None = None
    hashes: str | None = None
    files: str | None = None
    lsn: str | None = None
    goes_back: bool = False

    @property
    def place(self) -> int | None:
        """How far it lies among other states of its table; None where they can only be equal or not."""
        return position(self.lsn) if self.lsn is not None else self.snapshot_id

    def is_behind(self, other: SourceState) -> bool:
        """Whether it is an older one of the same table, as far as that can be told."""
        if (other.kind, other.table_id) != (self.kind, self.table_id) or self.place is None or other.place is None:
            return False
        return self.place < other.place

    def after(self, stored: SourceState | None) -> SourceState:
        """This state, as it is stored in the place of another one."""
        return self if stored is None or not self.is_behind(stored) else self.model_copy(update={"goes_back": True})


def position(lsn: str) -> int:
    """Bytes of WAL up to a place that Postgres writes as `16/B374D848`."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


class RowsChanged(Record):
    """What one update of a table did."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int
    snapshot_id: int

    @property
    def changed(self) -> int:
        """Rows that are not what they were."""
        return self.inserted + self.updated + self.deleted


class OnlineDocument(Record):
    """A document that a caller has sent, on its way into the documents.

    Attributes:
        columns: What it had in the columns of the source, as JSON.
    """

    document_id: str
    columns: str
    received_at: datetime


class TextLook(Record):
    """That somebody looked at texts by a way of the platform's.

    Attributes:
        rows: How many rows were read.
        subject: Of one document, an HMAC of its key; None for many, and where there is no key.
    """

    at: datetime
    by: str
    way: str
    rows: int = 1
    subject: str | None = None
