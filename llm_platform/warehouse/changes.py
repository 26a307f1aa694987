"""What a source says has changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from llm_platform.records import SourceState


@dataclass(frozen=True)
class AllBut:
    """Every key that is not among these has left: how a source without a record of deletions says what it lost."""

    keys: pa.Table = field(repr=False)
    """One column, `document_id`."""


@dataclass(frozen=True)
class SourceChanges:
    """Rows to take over, keys that left, and the state of the source after both.

    Attributes:
        full: Whether `rows` is the whole table, so that what is absent has left.
        rows: Batches with the source's own column names (key, text, attributes), readable once.
        deleted: Keys that left; None when `full` says it.
        reason: Why the whole table, or how much of it, in words.
    """

    full: bool
    rows: Iterable[pa.RecordBatch] = field(repr=False)
    deleted: list[str] | AllBut | None = field(repr=False)
    state: SourceState
    reason: str
