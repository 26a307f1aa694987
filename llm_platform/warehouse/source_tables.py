"""Source tables in databases without a change feed, followed by a watermark column or by comparing everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from llm_platform.application.source import Source
from llm_platform.records import SourceState, content_hash
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.hashing import version_of, version_select

TIMES = ("TIMESTAMP", "DATE")
"""How the names of SQL types begin whose values are times."""
LATEST = "now()::TIMESTAMP + INTERVAL 1 DAY"
"""SQL of the latest time to which a table may have been written: clocks differ, and so do the zones of columns without
one. One row from 2099, or valid until infinity, would otherwise hide every change to come."""


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


def table_state(
    cursor: duckdb.DuckDBPyConnection, relation: str, source: Source, *, key: str, kinds: Mapping[str, str]
) -> SourceState:
    """State of a table: its watermarks with their keys, or a hash of all rows where there is no watermark.

    All of them are part of it: a row that left and one that came with an old watermark change neither the number of
    rows nor the largest watermark, and a transaction that is committed late brings a watermark of before.

    Args:
        key: SQL of the key as text.
        kinds: Column → SQL type.
    """
    if source.watermark is None:
        columns = [identifier(name) for name in (source.key, *source.text_columns, *source.attributes)]
        version = version_of(cursor.execute(version_select(columns, relation)).fetchall()[0])
        return SourceState(kind="watermark", token=f"0@{version}", table_id=source.address)
    column = identifier(source.watermark)
    newest = f"max({column})"
    if kinds[source.watermark].startswith(TIMES):
        newest = f"coalesce(max({column}) FILTER ({column} <= {LATEST}), {newest})"
    count, largest, keys = cursor.execute(
        f"SELECT count(*), ({newest})::VARCHAR, {_hash(column, key)} FROM {relation}"
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
    kinds: Mapping[str, str],
    known: Callable[[], pa.Table] | None,
) -> WatermarkRead:
    """Which rows have to be read since a state; `key` and `kinds` are as for `table_state`."""
    state = table_state(cursor, relation, source, key=key, kinds=kinds)
    if since is None or since.table_id != state.table_id or since.kind != "watermark":
        return WatermarkRead("true", True, state, "first read")
    if source.watermark is None:
        return WatermarkRead("true", True, state, "the table has no watermark, so all of it is compared")
    if since.watermark is None or state.watermark is None:
        return WatermarkRead("true", True, state, "the watermark column was empty")
    column, kind = identifier(source.watermark), kinds[source.watermark]
    last, now = (f"TRY_CAST({literal(value)} AS {kind})" for value in (since.watermark, state.watermark))
    is_time = kind.startswith(TIMES)
    ahead = f"{last} > {LATEST} AND {last} > {now}" if is_time else "false"
    is_unfit, is_ahead = cursor.execute(f"SELECT {last} IS NULL, {ahead}").fetchall()[0]
    if is_unfit or is_ahead:
        why = "is of another type now" if is_unfit else "was ahead of the time"
        return WatermarkRead("true", True, state, f"the watermark {why}, so all of the table is compared")
    reason, start = f"rows with {source.watermark!r} from {since.watermark}", last
    if is_time and source.overlap_minutes:
        start = f"({last} - INTERVAL {round(60 * source.overlap_minutes):d} SECONDS)"
        reason += f" and {source.overlap_minutes:g} minutes before"
    # Not larger, but at least: rows with the last watermark may have come after the last read.
    newer = f"{column} >= {start}"
    if known is None:
        pairs = _hash(column, key)
        late = _late(cursor, relation, since, pairs=pairs, older=f"({column} IS NULL OR {column} <= {last})")
        return WatermarkRead("true", True, state, late) if late else WatermarkRead(newer, False, state, reason)
    cursor.register("consumed_keys", known())
    unknown = f"({key} IS NULL OR {key} NOT IN (SELECT document_id FROM consumed_keys))"
    late_rows = cursor.execute(
        f"SELECT count(*) FROM {relation} WHERE NOT coalesce({newer}, false) AND {unknown}"
    ).fetchall()[0][0]
    reason += f", and {late_rows} with an older one" if late_rows else ""
    return WatermarkRead(f"({newer} OR {unknown})", False, state, reason)


def _hash(column: str, key: str) -> str:
    """SQL of one text for all keys and their watermarks."""
    return f"coalesce(bit_xor(md5_number(coalesce({column}::VARCHAR, '') || chr(0) || {key})), 0)::VARCHAR"


def _late(
    cursor: duckdb.DuckDBPyConnection, relation: str, since: SourceState, *, pairs: str, older: str
) -> str | None:
    """What tells, without the keys that were consumed, that rows came with an old watermark; None if nothing does.

    Rows that were changed or left meanwhile can hide one that came; only the keys themselves tell then.
    """
    before, _, rest = since.token.partition("@")
    rows, keys = cursor.execute(f"SELECT count(*), {pairs} FROM {relation} WHERE {older}").fetchall()[0]
    if rows > int(before):
        return f"{rows - int(before)} rows arrived with an old watermark"
    return "rows arrived with an old watermark" if rows == int(before) and keys != rest.partition("@")[0] else None
