"""Source tables in databases without a change feed, followed by a watermark column or by comparing everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from llm_platform.application.source import Source
from llm_platform.records import SourceState, content_hash
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.hashing import version_of, version_select


@dataclass(frozen=True)
class WatermarkRead:
    """What is to be read of a table, and the state after it.

    Attributes:
        condition: SQL condition on the rows to read.
        full: Whether that is all of them.
    """

    condition: str
    full: bool
    state: SourceState
    reason: str


def table_state(cursor: duckdb.DuckDBPyConnection, relation: str, source: Source, *, key: str) -> SourceState:
    """State of a table: keys and largest watermark, or a hash of all rows where there is no watermark.

    The keys are part of it: a row that left and one that came with an old watermark change neither the number of rows
    nor the largest watermark.
    """
    if source.watermark is None:
        columns = [identifier(name) for name in (source.key, *source.text_columns, *source.attributes)]
        version = version_of(cursor.execute(version_select(columns, relation)).fetchall()[0])
        return SourceState(kind="watermark", token=f"0@{version}", table_id=source.address)
    column = identifier(source.watermark)
    count, largest, keys = cursor.execute(
        f"SELECT count(*), max({column})::VARCHAR, coalesce(bit_xor(md5_number({key})), 0)::VARCHAR FROM {relation}"
    ).fetchall()[0]
    # Number and keys are read back by `read_since`; nobody else takes a token apart.
    token = f"{count}@{keys}@{content_hash([source.watermark, largest, keys])}"
    return SourceState(kind="watermark", token=token, table_id=source.address, watermark=largest)


def read_since(
    cursor: duckdb.DuckDBPyConnection,
    relation: str,
    source: Source,
    *,
    since: SourceState | None,
    key: str,
    known: Callable[[], pa.Table] | None,
) -> WatermarkRead:
    """Which rows have to be read since a state; `key` is SQL of the key as text."""
    state = table_state(cursor, relation, source, key=key)
    if since is None or since.table_id != state.table_id or since.kind != "watermark":
        return WatermarkRead("true", True, state, "first read")
    if source.watermark is None:
        return WatermarkRead("true", True, state, "the table has no watermark, so all of it is compared")
    if since.watermark is None or state.watermark is None:
        return WatermarkRead("true", True, state, "the watermark column was empty")
    column = identifier(source.watermark)
    value = _constant(cursor, relation, column, since.watermark)
    # Not larger, but at least: rows with the last watermark may have come after the last read.
    newer = f"{column} >= {value}"
    reason = f"rows with {source.watermark!r} from {since.watermark}"
    if known is None:
        late = _late(cursor, relation, since, key=key, older=f"({column} IS NULL OR {column} <= {value})")
        return WatermarkRead("true", True, state, late) if late else WatermarkRead(newer, False, state, reason)
    cursor.register("consumed_keys", known())
    unknown = f"({key} IS NULL OR {key} NOT IN (SELECT document_id FROM consumed_keys))"
    late_rows = cursor.execute(
        f"SELECT count(*) FROM {relation} WHERE NOT coalesce({newer}, false) AND {unknown}"
    ).fetchall()[0][0]
    reason += f", and {late_rows} with an older one" if late_rows else ""
    return WatermarkRead(f"({newer} OR {unknown})", False, state, reason)


def _late(cursor: duckdb.DuckDBPyConnection, relation: str, since: SourceState, *, key: str, older: str) -> str | None:
    """What tells, without the keys that were consumed, that rows came with an old watermark; None if nothing does.

    Rows that were changed or left meanwhile can hide one that came; only the keys themselves tell then.
    """
    before, _, rest = since.token.partition("@")
    rows, keys = cursor.execute(
        f"SELECT count(*), coalesce(bit_xor(md5_number({key})), 0)::VARCHAR FROM {relation} WHERE {older}"
    ).fetchall()[0]
    if rows > int(before):
        return f"{rows - int(before)} rows arrived with an old watermark"
    return "rows arrived with an old watermark" if rows == int(before) and keys != rest.partition("@")[0] else None


def _constant(cursor: duckdb.DuckDBPyConnection, relation: str, column: str, value: str) -> str:
    kind = cursor.execute(f"SELECT typeof({column}) FROM {relation} LIMIT 1").fetchall()
    return f"{literal(value)}::{kind[0][0]}" if kind else literal(value)
