"""What a run would find in a table: its columns, its keys, what is empty, and what it would refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.application.source import TableRef
from llm_platform.documents.prepare import prepare
from llm_platform.documents.references import known_answers_of
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.ready import out_of_reach
from llm_platform.operations.answering.documents import located, read_known
from llm_platform.records import DocumentStatus
from llm_platform.tables.columns import python_values, texts
from llm_platform.tables.forms import LONGEST_KEY, impossible, text_of
from llm_platform.warehouse.sources import SourceReader

MOST_ROWS = 1_000_000
MOST_FILES = 200
"""Files whose text is looked for: a scanner's hundred pages take a second."""
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
        rows: How many were read.
        about: How many there are, where not all of them were read.
        followed: What tells a sensor that it has changed.
        notes: What is worth knowing.
        refused: What would end the run before anything is sent.
        answers_refused: The same, of the known answers beside it.
    """

    address: str
    columns: list[ColumnLook]
    rows: int = 0
    about: int | None = None
    followed: str = ""
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answers_refused: list[str] = field(default_factory=list)


def look_at_table(ref: TableRef, sources: SourceReader, *, most: int = MOST_ROWS) -> SourceLook:
    """A table that no application names yet.

    Args:
        most: Rows that are read; of a larger table, how many there are is counted.

    Raises:
        As `SourceReader`.
    """
    kinds, rows = sources.columns(ref), 0
    filled: Counter[str] = Counter()
    values: dict[str, set[str]] = {name: set() for name in kinds}
    unfit: Counter[str] = Counter()
    for row in islice(sources.rows(ref, most), most):
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
    if not rows:
        notes.append("It has no rows.")
    look = SourceLook(ref.address, columns, rows, notes=notes)
    _count_the_rest(look, ref, sources, most)
    return look


def look_at_source(application: Application, sources: SourceReader, *, most: int = MOST_ROWS) -> SourceLook:
    """The table of documents of an application, and its known answers beside it.

    Args:
        most: Rows that are read, of either table; of a larger one, how many there are is counted.

    Raises:
        TransientError: it cannot be read now.
    """
    source = located(application.source, application)
    most = min(most, MOST_FILES) if source.files is not None else most
    look = SourceLook(source.address, [])
    try:
        named = [*source.columns, *([source.watermark] if source.watermark else [])]
        look.columns = [ColumnLook(name, kind) for name, kind in sources.columns(source, named).items()]
        if source.watermark is not None and source.watermark not in [column.name for column in look.columns]:
            look.refused.append(f"There is no column {source.watermark!r}, which is to be the watermark.")
        keys = _look_at_documents(application, sources, look, most)
        look.followed = sources.followed(source)
        standing = sources.standing(source)
        look.notes += [f"{trouble}."] if standing is not None and (trouble := standing.trouble()) is not None else []
        _count_the_rest(look, source, sources, most)
    except ContractBroken as error:
        look.refused.append(str(error))
        return look
    _look_at_known_answers(application, sources, look, keys)
    return look


def _look_at_known_answers(
    application: Application, sources: SourceReader, look: SourceLook, keys: Sequence[str]
) -> None:
    if application.references is None:
        return
    documents = pa.table({"document_id": pa.array(keys, pa.string()), "fingerprint": pa.array(keys, pa.string())})
    try:
        rows = read_known(sources, application)
        known = known_answers_of(rows, NO_VERDICTS.empty_table(), documents, application)
    except ContractBroken as error:
        look.answers_refused.append(str(error))
        return
    splits = Counter(known.rows["split"].to_pylist())
    parts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    look.notes.append(f"Known answers: {known.rows.num_rows} ({parts}), {known.unlabelled} rows without one.")
    if (why := out_of_reach(application, splits["evaluation"])) is not None:
        look.notes.append(f"{why[0].upper()}{why[1:]}.")
    # Of a part of the documents it cannot be told.
    look.notes += [f"{known.unmatched_note}."] if known.unmatched and look.about is None else []


def _look_at_documents(application: Application, sources: SourceReader, look: SourceLook, most: int) -> list[str]:
    """Read rows as a run would; returns their keys."""
    source = located(application.source, application)
    named = dict.fromkeys(source.attributes, "attribute")
    named |= dict.fromkeys(source.text_columns, "text") | {source.key: "key"}
    named |= {source.watermark: "watermark"} if source.watermark else {}
    empty: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    nameless, wrong = 0, []
    for batch in sources.first(source, most):
        look.rows += batch.num_rows
        for name in batch.schema.names:
            empty[name] += sum(not value for value in map(text_of, _plain(batch.column(name))))
        keys = texts(batch.column(source.key))
        nameless += sum(not key for key in keys)
        wrong += [key for key in keys if key and impossible(key) is not None]
        fit = pa.array([bool(key) and impossible(key or "") is None for key in keys], pa.bool_())
        for documents in prepare([batch.filter(fit)], source, application.documents):
            seen.update(documents["document_id"].to_pylist())
            statuses.update(documents["status"].to_pylist())
    for column in look.columns:
        column.read_as = named.get(column.name, "")
        column.empty = empty[column.name] if column.read_as not in ("", "watermark") else None
        column.values = len(seen) if column.name == source.key else None
    repeated = [key for key, times in seen.items() if times > 1]
    if nameless:
        look.refused.append(f"{nameless} rows have no key (column {source.key!r} is null or empty).")
    if wrong:
        look.refused.append(f"{len(wrong)} keys are impossible (first: {wrong[0][:40]!a}): they {IMPOSSIBLE_KEYS}.")
    if repeated:
        look.refused.append(f"{len(repeated)} keys occur more than once (first: {repeated[0]!r}).")
    if look.rows:
        unsent = [
            f"{count} are {status}" for status, count in sorted(statuses.items()) if status != DocumentStatus.SENDABLE
        ]
        sendable = statuses[DocumentStatus.SENDABLE]
        look.notes.append(f"Texts: {sendable} can be sent{'; ' if unsent else ''}{', '.join(unsent)}.")
    else:
        look.notes.append("It has no rows.")
    return list(seen)


def _count_the_rest(look: SourceLook, ref: TableRef, sources: SourceReader, most: int) -> None:
    if look.rows >= most:
        look.about = max(sources.count(ref), look.rows)


def _plain(column: pa.Array) -> list[Any]:
    return python_values(column.cast(pa.binary()) if pa.types.is_string(column.type) else column)
