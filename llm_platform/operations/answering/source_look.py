"""What a run would find in a table: its columns, its keys, what is empty, and what it would refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.documents.prepare import prepare
from llm_platform.documents.references import known_answers_of
from llm_platform.errors import ContractBroken
from llm_platform.operations.answering.documents import located, read_known
from llm_platform.records import DocumentStatus
from llm_platform.tables.files import TableFile
from llm_platform.tables.forms import LONGEST_KEY, impossible, text_of
from llm_platform.warehouse.sources import SourceReader

NO_VERDICTS = pa.schema(
    [*((name, pa.string()) for name in ("document_id", "fingerprint", "answer", "basis")), ("sampled", pa.bool_())]
)
IMPOSSIBLE_KEYS = f"hold a NUL, bytes that are no text, more than {LONGEST_KEY} bytes, or a list or an object"


@dataclass
class ColumnLook:
    """One column: its type, what it is read as, how many rows have nothing in it, and how many values there are.

    Attributes:
        empty: None where the column was not read.
        values: Different values; None where they were not counted.
    """

    name: str
    kind: str
    read_as: str = ""
    empty: int | None = None
    values: int | None = None


@dataclass
class SourceLook:
    """A table as a run would read it.

    Attributes:
        notes: What is worth knowing.
        refused: What would end the run before anything is sent.
    """

    address: str
    columns: list[ColumnLook]
    rows: int = 0
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def look_at_file(path: Path) -> SourceLook:
    """A file that no application names yet.

    Raises:
        As `TableFile`.
    """
    file = TableFile(path)
    kinds, rows = file.columns(), 0
    filled: Counter[str] = Counter()
    values: dict[str, set[str]] = {name: set() for name in kinds}
    unfit: Counter[str] = Counter()
    for _, row in file.rows():
        rows += 1
        for name, value in row.items():
            found = values.setdefault(name, set())
            if text := text_of(value):
                found.add(text)
                filled[name] += 1
                unfit[name] += isinstance(value, Mapping | list) or impossible(text) is not None
    columns = [
        ColumnLook(name, kinds.get(name, "JSON"), empty=rows - filled[name], values=len(found))
        for name, found in values.items()
        if name
    ]
    unique = [column.name for column in columns if rows and not column.empty and column.values == rows]
    keys = [name for name in unique if not unfit[name]]
    notes = [f"Columns that could be keys: {', '.join(map(repr, keys)) or 'none'}."]
    notes += [
        f"Column {name!r} has another value in every row, but cannot be the key: {unfit[name]} {IMPOSSIBLE_KEYS}."
        for name in unique
        if unfit[name]
    ]
    return SourceLook(str(path), columns, rows, notes=notes)


def look_at_source(application: Application, sources: SourceReader) -> SourceLook:
    """The table of documents of an application, and its known answers beside it.

    Raises:
        TransientError: it cannot be read now.
    """
    source = located(application.source, application)
    look = SourceLook(source.address, [])
    try:
        look.columns = [ColumnLook(name, kind) for name, kind in sources.columns(source, source.columns).items()]
        keys = _look_at_documents(application, sources, look)
    except ContractBroken as error:
        look.refused.append(str(error))
        return look
    if application.references is not None:
        documents = pa.table({"document_id": keys, "fingerprint": keys})
        try:
            rows = read_known(sources, application)
            known = known_answers_of(rows, NO_VERDICTS.empty_table(), documents, application)
        except ContractBroken as error:
            look.refused.append(str(error))
        else:
            splits = Counter(known.rows["split"].to_pylist())
            parts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
            look.notes.append(f"Known answers: {known.rows.num_rows} ({parts}), {known.unlabelled} rows without one.")
            look.notes += [f"{known.unmatched_note}."] if known.unmatched else []
    return look


def _look_at_documents(application: Application, sources: SourceReader, look: SourceLook) -> list[str]:
    """Read all rows as a run would; returns their keys."""
    source = located(application.source, application)
    named = dict.fromkeys(source.attributes, "attribute")
    named |= dict.fromkeys(source.text_columns, "text") | {source.key: "key"}
    named |= {source.watermark: "watermark"} if source.watermark else {}
    empty: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    keys: list[str] = []
    for batch in sources.changes(source, None).rows:
        look.rows += batch.num_rows
        for name in batch.schema.names:
            empty[name] += sum(not value for value in map(text_of, _plain(batch.column(name))))
        for documents in prepare([batch], source, application.documents):
            keys += documents["document_id"].to_pylist()
            statuses.update(documents["status"].to_pylist())
    for column in look.columns:
        column.read_as = named.get(column.name, "")
        column.empty = empty[column.name] if column.read_as not in ("", "watermark") else None
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        look.refused.append(f"{len(repeated)} keys occur more than once (first: {repeated[0]!r}).")
    unsent = [
        f"{count} are {status}" for status, count in sorted(statuses.items()) if status != DocumentStatus.SENDABLE
    ]
    sendable = statuses[DocumentStatus.SENDABLE]
    look.notes.append(f"Texts: {sendable} can be sent{'; ' if unsent else ''}{', '.join(unsent)}.")
    return keys


def _plain(column: pa.Array) -> list[Any]:
    return list((column.cast(pa.binary()) if pa.types.is_string(column.type) else column).to_pylist())
