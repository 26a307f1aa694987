"""Source tables in a DuckLake, followed by snapshot and change feed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import duckdb

from llm_platform.errors import ContractBroken
from llm_platform.records import SourceState
from llm_platform.warehouse.engine import execute, identifier, literal, one_of
from llm_platform.warehouse.session import metadata_table, qualified

CONTENT_CHANGES = ("tables_inserted_into", "tables_deleted_from", "inlined_insert", "inlined_delete", "tables_altered")
"""Kinds of change that can alter what a reader sees; compaction and flushing cannot."""
MOST_WRITTEN_OUT = 1_000
_WHOLE_NUMBERS = frozenset(
    f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
)
_ONE_FORM = re.compile(r"[ -~]*")
_ALSO_OTHERS = frozenset(";K`")
"""Of ASCII, what NFC makes of another character: the Greek question mark, the Kelvin sign and the Greek varia."""


@dataclass(frozen=True)
class LakeTable:
    """A table in an attached DuckLake, as it is in snapshot `version`.

    Attributes:
        version: The catalog's newest snapshot when we looked; all reads are at it.
        last_change: The newest snapshot that changed this table.
        changed_at: When it was made; None where it has expired.
        certain: Whether `last_change` is still recorded; otherwise it is a lower bound.
    """

    alias: str
    schema: str
    name: str
    table_id: int
    uuid: str
    version: int
    last_change: int
    changed_at: str | None
    certain: bool

    @property
    def at_version(self) -> str:
        """SQL to read it from."""
        return f"{qualified(self.alias, self.schema, self.name)} AT (VERSION => {self.version:d})"

    def state(self, cursor: duckdb.DuckDBPyConnection) -> SourceState:
        """How far somebody has come who has read the table at this version."""
        token = _token(self.uuid, self.last_change, self.changed_at)
        if not self.certain:
            # History has expired, so a deletion can be older than the newest file: the number of rows shows it.
            rows = cursor.execute(f"SELECT count(*) FROM {self.at_version}").fetchall()[0][0]
            token = f"{token}+{rows}"
        return SourceState(kind="snapshot", token=token, snapshot_id=self.last_change, table_id=self.uuid)


def find_lake_table(
    cursor: duckdb.DuckDBPyConnection, *, alias: str, metadata_schema: str, schema: str, name: str
) -> LakeTable | None:
    """The table under this name now; None when there is none."""
    version = int(cursor.execute(f"SELECT id FROM {identifier(alias)}.current_snapshot()").fetchall()[0][0])
    tables = metadata_table("ducklake_table", catalog=alias, schema=metadata_schema)
    schemas = metadata_table("ducklake_schema", catalog=alias, schema=metadata_schema)
    found = execute(
        cursor,
        f"SELECT t.table_id, t.table_uuid::VARCHAR, t.begin_snapshot FROM {tables} t JOIN {schemas} s USING "
        "(schema_id) "
        "WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = ? AND t.table_name = ?",
        [schema, name],
    ).fetchall()
    if not found:
        return None
    table_id, uuid, created = found[0]
    recorded = _last_recorded(cursor, alias, table_id, version)
    last_change = int(max(created, recorded or 0))
    oldest, changed_at = cursor.execute(
        f"SELECT min(snapshot_id), {_time_of(last_change)} FROM {identifier(alias)}.snapshots()"
    ).fetchall()[0]
    certain = recorded is not None or created >= oldest
    if not certain:
        last_change = max(last_change, _last_stored(cursor, alias, metadata_schema, table_id))
    return LakeTable(alias, schema, name, int(table_id), str(uuid), version, last_change, changed_at, certain)


def _token(uuid: str, last_change: int, changed_at: str | None) -> str:
    """Numbers of snapshots are given again in a catalog that was restored from a backup; times are not."""
    return f"{uuid}@{last_change}" + (f"@{changed_at}" if changed_at is not None else "")


def _time_of(snapshot: int) -> str:
    """SQL of when a snapshot was made, among all of them."""
    return f"(max(epoch_us(snapshot_time)) FILTER (snapshot_id = {snapshot:d}))::VARCHAR"


def _last_recorded(cursor: duckdb.DuckDBPyConnection, alias: str, table_id: int, version: int) -> int | None:
    mentions = " OR ".join(
        f"list_contains(coalesce(changes[{literal(kind)}], []::VARCHAR[]), {literal(str(table_id))})"
        for kind in CONTENT_CHANGES
    )
    found: Any = execute(
        cursor,
        f"SELECT max(snapshot_id) FROM {identifier(alias)}.snapshots() WHERE snapshot_id <= ? AND ({mentions})",
        [version],
    ).fetchall()[0][0]
    return None if found is None else int(found)


def _last_stored(cursor: duckdb.DuckDBPyConnection, alias: str, metadata_schema: str, table_id: int) -> int:
    """The newest snapshot that any row of the table, or mark of deletion, came from."""

    def metadata(name: str) -> str:
        return metadata_table(name, catalog=alias, schema=metadata_schema)

    where = f"WHERE table_id = {table_id:d} AND end_snapshot IS NULL"
    largest = [
        f"SELECT max(greatest(begin_snapshot, coalesce(partial_max, 0))) AS newest FROM "
        f"{metadata('ducklake_data_file')} {where}",
        f"SELECT max(greatest(begin_snapshot, coalesce(partial_max, 0))) FROM {metadata('ducklake_delete_file')} "
        f"{where}",
        f"SELECT max(begin_snapshot) FROM {metadata('ducklake_column')} {where}",
    ]
    inlined = execute(
        cursor, f"SELECT table_name FROM {metadata('ducklake_inlined_data_tables')} WHERE table_id = ?", [table_id]
    ).fetchall()
    largest += [f"SELECT max(begin_snapshot) FROM {metadata(row[0])}" for row in inlined]
    found = cursor.execute(f"SELECT max(newest) FROM ({' UNION ALL '.join(largest)})").fetchall()[0][0]
    return int(found or 0)


def why_full(cursor: duckdb.DuckDBPyConnection, table: LakeTable, since: SourceState | None) -> str | None:
    """Why the whole table has to be compared; None when its change feed says enough."""
    if since is None or since.snapshot_id is None:
        return "first read"
    if since.table_id != table.uuid:
        return "the table was replaced"
    if not table.certain:
        return "the history of the table has expired"
    following, made = cursor.execute(
        f"SELECT count(*) FILTER (snapshot_id = {since.snapshot_id + 1:d}), {_time_of(since.snapshot_id)} "
        f"FROM {identifier(table.alias)}.snapshots()"
    ).fetchall()[0]
    # States of before there were times in them are believed.
    known = [_token(table.uuid, since.snapshot_id, None), _token(table.uuid, since.snapshot_id, made)]
    if since.snapshot_id > table.last_change or (made is not None and since.token.partition("+")[0] not in known):
        return "the table has another history, as where its catalog was restored from a backup"
    if since.snapshot_id == table.last_change or not following:
        return None if since.snapshot_id == table.last_change else f"snapshot {since.snapshot_id + 1} has expired"
    altered = execute(
        cursor,
        f"SELECT count(*) FROM {identifier(table.alias)}.snapshots() WHERE snapshot_id > ? AND snapshot_id <= ? "
        f"AND list_contains(coalesce(changes['tables_altered'], []::VARCHAR[]), {literal(str(table.table_id))})",
        [since.snapshot_id, table.version],
    ).fetchall()[0][0]
    return "the columns of the table have changed" if altered else None


def stage_changed_keys(
    cursor: duckdb.DuckDBPyConnection, table: LakeTable, *, column: str, key: str, since: int
) -> int:
    """Fill the temporary table `changed` (key) with keys that any change since a snapshot mentions; returns how many.

    Only the keys are taken from the feed, and the rows are read at `version`: the feed lists a row once per change,
    and lists some of them twice.

    Args:
        cursor: In the transaction that reads the table.
        table: The source.
        column: Its key column.
        key: SQL of that column as text.
        since: The snapshot that was consumed.

    Raises:
        ContractBroken: a row that is there has no key, or one that holds a NUL.
    """
    arguments = ", ".join(
        [literal(table.alias), literal(table.schema), literal(table.name), f"{since + 1:d}", f"{table.version:d}"]
    )
    cursor.execute(
        f"CREATE TEMP TABLE changed AS SELECT DISTINCT {key} AS key FROM ducklake_table_changes({arguments})"
    )
    missing, broken = cursor.execute(
        "SELECT count(*) FILTER (key IS NULL), count(*) FILTER (contains(key, chr(0))) FROM changed"
    ).fetchall()[0]
    if missing:
        raise ContractBroken(f"Changed rows of {table.name!r} have no key in column {column!r}. Give every row a key.")
    if broken:
        # DuckLake writes the bounds of what is joined into SQL, which such a key would end. Rows that have gone with
        # theirs were never documents.
        cursor.execute("DELETE FROM changed WHERE contains(key, chr(0))")
        there = cursor.execute(f"SELECT count(*) FROM {table.at_version} WHERE contains({key}, chr(0))").fetchall()[0][
            0
        ]
        if there:
            raise ContractBroken(
                f"{there} keys of {table.name!r} (column {column!r}) hold a NUL character. Give these rows other keys; "
                "nothing was taken over."
            )
    return int(cursor.execute("SELECT count(*) FROM changed").fetchall()[0][0])


def with_changed_key(cursor: duckdb.DuckDBPyConnection, *, column: str, kind: str, key: str) -> str:
    """SQL that a row has one of the keys in `changed`: by the column itself where it can, which passes over files.

    Args:
        cursor: Has the table that `stage_changed_keys` made.
        column: The key column.
        kind: Its SQL type.
        key: SQL of that column as text, which other texts may share with the one that changed.
    """
    if kind == "VARCHAR" or kind in _WHOLE_NUMBERS:
        found = cursor.execute(f"SELECT key FROM changed LIMIT {MOST_WRITTEN_OUT + 1:d}").fetchall()
        keys = [row[0] for row in found]
        if len(keys) <= MOST_WRITTEN_OUT and all(
            _ONE_FORM.fullmatch(one) and not _ALSO_OTHERS & {*one} for one in keys
        ):
            return one_of(identifier(column), keys)
    return f"{key} IN (SELECT key FROM changed)"
