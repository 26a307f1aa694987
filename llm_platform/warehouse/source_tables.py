"""Source tables in databases without a change feed, followed by a watermark column or by comparing everything."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from llm_platform.application.model import Source
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


def table_state(cursor: duckdb.DuckDBPyConnection, relation: str, source: Source) -> SourceState:
    """State of a table: largest watermark and number of rows, or a hash of all rows where there is no watermark."""
    if source.watermark is None:
        columns = [identifier(name) for name in (source.key, *source.text_columns, *source.attributes)]
        version = version_of(cursor.execute(version_select(columns, relation)).fetchall()[0])
        return SourceState(kind="watermark", token=f"0@{version}", table_id=source.address)
    column = identifier(source.watermark)
    count, largest = cursor.execute(f"SELECT count(*), max({column})::VARCHAR FROM {relation}").fetchall()[0]
    # The count in front is read back by `read_since`; nobody else takes a token apart.
    token = f"{count}@{content_hash([source.watermark, largest])}"
    return SourceState(kind="watermark", token=token, table_id=source.address, watermark=largest)


def read_since(
    cursor: duckdb.DuckDBPyConnection, relation: str, source: Source, *, since: SourceState | None
) -> WatermarkRead:
    """Which rows have to be read since a state."""
    state = table_state(cursor, relation, source)
    if since is None or since.table_id != state.table_id or since.kind != "watermark":
        return WatermarkRead("true", True, state, "first read")
    if source.watermark is None:
        return WatermarkRead("true", True, state, "the table has no watermark, so all of it is compared")
    if since.watermark is None or state.watermark is None:
        return WatermarkRead("true", True, state, "the watermark column was empty")
    column = identifier(source.watermark)
    before = int(since.token.partition("@")[0])
    older = cursor.execute(
        f"SELECT count(*) FROM {relation} WHERE {column} IS NULL OR {column} <= "
        f"{_constant(cursor, relation, column, since.watermark)}"
    ).fetchall()[0][0]
    if older > before:
        return WatermarkRead("true", True, state, f"{older - before} rows arrived with an old watermark")
    # Not larger, but at least: rows with the last watermark may have come after the last read.
    condition = f"{column} >= {_constant(cursor, relation, column, since.watermark)}"
    return WatermarkRead(condition, False, state, f"rows with {source.watermark!r} from {since.watermark}")


def _constant(cursor: duckdb.DuckDBPyConnection, relation: str, column: str, value: str) -> str:
    kind = cursor.execute(f"SELECT typeof({column}) FROM {relation} LIMIT 1").fetchall()
    return f"{literal(value)}::{kind[0][0]}" if kind else literal(value)
