"""Source tables in databases without a change feed, followed by a watermark column or by comparing everything."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa

from llm_platform.application.source import Source
from llm_platform.records import SourceState, content_hash
from llm_platform.warehouse.changes import AllBut
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.source_forms import FLOATS

TIMES = ("TIMESTAMP", "DATE")
"""How the names of SQL types begin whose values are times."""
LATEST = "now()::TIMESTAMP + INTERVAL 1 DAY"
"""SQL of the latest time to which a table may have been written: clocks differ, and so do the zones of columns without
one. One row from 2099, or valid until infinity, would otherwise hide every change to come."""
MANY_AGAIN = 10_000
"""Rows to be read once more whose hashes are kept, so that those that are as they were need not be."""
HASHED_BUCKETS, HASH_BYTES = 1024, 8
"""In how many parts, by the hash of the key, and how much of a part's hash."""
MOST_LISTED = 1_000
"""Keys that left which are named; of more, those that are there are."""


@dataclass(frozen=True)
class WatermarkRead:
    """What is to be read of a table, and the state after it.

    Attributes:
        condition: SQL condition on the rows to read.
        full: Whether that is all of them.
        deleted: Keys that left, or those that are there; None when `full` says it.
    """

    condition: str
    full: bool
    state: SourceState
    reason: str
    deleted: list[str] | AllBut | None = None


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
    newest = f"coalesce(max({column}) FILTER ({_credible(column, kinds[source.watermark])}), max({column}))"
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

    @cache
    def hashes(where: str) -> dict[int, int]:
        return _hashes(cursor, relation, source, key=key, where=where)

    if source.watermark is None or state.watermark is not None:
        where = _newer(source, state, kinds)[0]
        if cursor.execute(f"SELECT count(*) FROM {relation} WHERE {where}").fetchall()[0][0] >= MANY_AGAIN:
            state = state.model_copy(update={"hashes": _packed(hashes(where))})
    why = _why_whole(cursor, source, since, state, kinds=kinds)
    if since is None or why is not None:
        return WatermarkRead("true", True, state, why or "first read")
    newer, reason = _newer(source, since, kinds)
    condition = newer
    if since.hashes is not None:
        condition = _differing(since.hashes, hashes(newer), key=key, where=newer)
        reason += ", as far as their hashes differ"
    if known is None:
        if late := _late(cursor, relation, source, since, key=key, kinds=kinds):
            return WatermarkRead("true", True, state, late)
        return WatermarkRead(condition, False, state, reason, _all_but(cursor, relation, key))
    late_rows, gone = _compare_keys(cursor, relation, known(), key=key, newer=newer)
    if late_rows:
        # Not otherwise: a condition on the watermark alone is asked of the other database, which sends those rows only.
        condition = f"({condition} OR {key} IS NULL OR {key} IN (SELECT document_id FROM apart WHERE there))"
        reason += f", and {late_rows} with an older one"
    left = _all_but(cursor, relation, key) if gone is None else gone
    return WatermarkRead(condition, False, state, reason, left)


def _why_whole(
    cursor: duckdb.DuckDBPyConnection,
    source: Source,
    since: SourceState | None,
    state: SourceState,
    *,
    kinds: Mapping[str, str],
) -> str | None:
    """Why all rows have to be read; None where some are enough."""
    if since is None or since.table_id != state.table_id or since.kind != "watermark":
        return "first read"
    if source.watermark is None:
        return "the table has no watermark, so all of it is compared" if since.hashes is None else None
    if since.watermark is None or state.watermark is None:
        return "the watermark column was empty"
    kind = kinds[source.watermark]
    last, now = (_value(one.watermark or "", kind) for one in (since, state))
    ahead = f"NOT ({_credible(last, kind)}) AND {last} > {now}"
    is_unfit, is_ahead = cursor.execute(f"SELECT {last} IS NULL, {ahead}").fetchall()[0]
    if is_unfit or is_ahead:
        why = "is of another type now" if is_unfit else "was ahead of the time"
        return f"the watermark {why}, so all of the table is compared"
    return None


def _newer(source: Source, since: SourceState, kinds: Mapping[str, str]) -> tuple[str, str]:
    """(SQL condition on the rows that may be others since a state, the same in words)."""
    if source.watermark is None:
        return "true", "all rows"
    column, kind = identifier(source.watermark), kinds[source.watermark]
    reason, start = f"rows with {source.watermark!r} from {since.watermark}", _value(since.watermark or "", kind)
    if kind.startswith(TIMES) and source.overlap_minutes:
        start = f"({start} - INTERVAL {round(60 * source.overlap_minutes):d} SECONDS)"
        reason += f" and {source.overlap_minutes:g} minutes before"
    # Not larger, but at least: rows with the last watermark may have come after the last read.
    return f"{column} >= {start}", reason


def _value(watermark: str, kind: str) -> str:
    return f"TRY_CAST({literal(watermark)} AS {kind})"


def _hashes(
    cursor: duckdb.DuckDBPyConnection, relation: str, source: Source, *, key: str, where: str
) -> dict[int, int]:
    """Bucket → hash of its rows. DuckDB's own is a fifth of MD5's CPU; where another version hashes otherwise, all
    buckets differ once.
    """
    named = (*source.columns, *([source.watermark] if source.watermark else []))
    # Twice: the hash of several values is an exclusive or of theirs, and two rows that exchange one would cancel out.
    row = f"hash(hash({', '.join(map(identifier, named))}))"
    found = cursor.execute(f"SELECT {_bucket(key)}, bit_xor({row}) FROM {relation} WHERE {where} GROUP BY 1").fetchall()
    return dict(found)


def _packed(hashes: Mapping[int, int]) -> str:
    made = b"".join(hashes.get(bucket, 0).to_bytes(HASH_BYTES) for bucket in range(HASHED_BUCKETS))
    return base64.b85encode(made).decode()


def _differing(then: str, now: Mapping[int, int], *, key: str, where: str) -> str:
    """SQL condition on rows of buckets whose hash is another one now than the packed one."""
    made = base64.b85decode(then)
    places = range(0, len(made), HASH_BYTES)
    before = [int.from_bytes(made[place : place + HASH_BYTES]) for place in places]
    others = [str(bucket) for bucket, one in enumerate(before) if now.get(bucket, 0) != one]
    return f"({where} AND {_bucket(key)} IN ({', '.join(others)}))" if others else "false"


def _bucket(key: str) -> str:
    return f"hash({key}) % {HASHED_BUCKETS:d}"


def _compare_keys(
    cursor: duckdb.DuckDBPyConnection, relation: str, known: pa.Table, *, key: str, newer: str
) -> tuple[int, list[str] | None]:
    """(how many rows that are not newer were not consumed, which consumed keys are there no more or None for many).

    Fills the temporary table `apart` (document_id, there) with both; `there` is null where there is no row.
    """
    cursor.register("consumed_keys", known)
    cursor.execute(
        "CREATE TEMP TABLE apart AS SELECT coalesce(s.document_id, c.document_id) AS document_id, s.there "
        f"FROM (SELECT {key} AS document_id, coalesce({newer}, false) AS newer, true AS there FROM {relation}) s "
        "FULL JOIN consumed_keys c ON s.document_id = c.document_id "
        "WHERE s.there IS NULL OR (c.document_id IS NULL AND NOT s.newer)"
    )
    late, gone = cursor.execute("SELECT count(there), count(*) - count(there) FROM apart").fetchall()[0]
    if gone > MOST_LISTED:
        return late, None
    return late, [row[0] for row in cursor.execute("SELECT document_id FROM apart WHERE there IS NULL").fetchall()]


def _all_but(cursor: duckdb.DuckDBPyConnection, relation: str, key: str) -> AllBut:
    return AllBut(cursor.execute(f"SELECT {key} AS document_id FROM {relation}").to_arrow_table())


def _credible(value: str, kind: str) -> str:
    """SQL of whether a watermark can be the last one; of others there may be rows, too."""
    if kind.startswith(TIMES):
        return f"{value} <= {LATEST}"
    return f"isfinite({value})" if kind in FLOATS else "true"


def _hash(column: str, key: str) -> str:
    """SQL of one text for all keys and their watermarks."""
    return f"coalesce(bit_xor(md5_number(coalesce({column}::VARCHAR, '') || chr(0) || {key})), 0)::VARCHAR"


def _late(
    cursor: duckdb.DuckDBPyConnection,
    relation: str,
    source: Source,
    since: SourceState,
    *,
    key: str,
    kinds: Mapping[str, str],
) -> str | None:
    """What tells, without the keys that were consumed, that rows came with an old watermark; None if nothing does.

    Rows that were changed or left meanwhile can hide one that came; only the keys themselves tell then.
    """
    if source.watermark is None:
        return None
    column, (before, _, rest) = identifier(source.watermark), since.token.partition("@")
    older = f"({column} IS NULL OR {column} <= {_value(since.watermark or '', kinds[source.watermark])})"
    rows, keys = cursor.execute(f"SELECT count(*), {_hash(column, key)} FROM {relation} WHERE {older}").fetchall()[0]
    if rows > int(before):
        return f"{rows - int(before)} rows arrived with an old watermark"
    return "rows arrived with an old watermark" if rows == int(before) and keys != rest.partition("@")[0] else None
