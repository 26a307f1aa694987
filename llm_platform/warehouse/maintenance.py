"""Compaction: fewer and larger files, and no more history than is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from llm_platform.errors import StorageError
from llm_platform.warehouse.backups import back_up
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.session import LAKE, Session, qualified

FILES = f"SELECT coalesce(sum(file_count + delete_file_count), 0) FROM {LAKE}.table_info()"
READERS_SECONDS = 86_400
"""How long a file outlives its last snapshot: somebody may have begun to read it, and the copy of the catalog from
before names it."""
ORPHANS_SECONDS = 86_400
"""Age from which a file that no snapshot names was left by a process that died, and is not about to be committed."""
OF_EXAMPLES = "(manifest ->> '$.data.documents_snapshot')::BIGINT"
"""Of an adapter: the snapshot that its examples were read in."""
MERGED_AT_ONCE = 1
"""Files that one transaction writes: while it reads what goes into them, the catalog's database waits in it."""


@dataclass(frozen=True)
class CompactionReport:
    """What one compaction did; files are Parquet files of rows and of deletions.

    Attributes:
        snapshots_kept: Old ones that a decision rests on.
        copy: Of the catalog, from before; None where no snapshot was old enough to go.
    """

    files_before: int
    files_after: int
    snapshots_expired: int
    snapshots_kept: int
    files_deleted: int
    snapshot_id: int
    copy: Path | None

    @property
    def line(self) -> str:
        """For people."""
        kept = f" {self.snapshots_kept} as old are kept: decisions rest on them." if self.snapshots_kept else ""
        copy = f" The catalog of before is {self.copy}." if self.copy else ""
        return (
            f"{self.files_before} files became {self.files_after}; {self.snapshots_expired} snapshots and "
            f"{self.files_deleted} files that nothing refers to are gone.{kept}{copy}"
        )


def compact(session: Session, *, keep_days: float, copies: Path | None, kind: str, target: str) -> CompactionReport:
    """Merge small files, expire old snapshots, delete files that nothing refers to. Rows stay as they are.

    A snapshot that a promotion, a step of a rollout, the report that it names, or an adapter rests on is kept, however
    old. Before others go, the catalog is copied; before files are deleted, rows are counted again.

    Args:
        session: Of the lake.
        keep_days: Younger snapshots stay.
        copies: Folder for copies of the catalog; None where this machine has none for this lake.
        kind: Of the catalog, `sqlite` or `postgres`.
        target: Its file or connection string.

    Raises:
        StorageError: the catalog cannot be copied, so nothing was changed; or rows are missing, and no file was
            deleted.
    """
    with session.cursor("compact") as cursor:

        def locked(step: Callable[[], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
            # One lock per step, so that writers waiting for it get in between.
            with session.coordinator.write_lock("compact"):
                return session.retried("compaction", step)

        def call(statement: str) -> list[tuple[Any, ...]]:
            return locked(lambda: cursor.execute(f"CALL {statement}").fetchall())

        before = _number(cursor, FILES)
        seconds = int(keep_days * 86_400)
        old, kept = _outdated(session, cursor, seconds)
        copy = None
        if old:
            if copies is None:
                raise StorageError(
                    f"Cannot let go of {len(old)} snapshots of the lake at {session.address}: there is no folder to "
                    "copy its catalog to first. Name one in LLM_PLATFORM_STATE."
                )
            with session.coordinator.write_lock("compact"):
                copy = back_up(session, cursor, copies, kind=kind, target=target)
        at = session.snapshot()
        rows = _rows_at(session, cursor, at)
        if old:
            call(f"ducklake_expire_snapshots('{LAKE}', versions => [{', '.join(map(str, old))}])")
        call(f"ducklake_rewrite_data_files('{LAKE}')")
        for schema, table in _tables(session):
            merge = (
                f"ducklake_merge_adjacent_files('{LAKE}', {literal(table)}, schema => {literal(schema)}, "
                f"max_compacted_files => {MERGED_AT_ONCE:d})"
            )
            while any(read > made for *_, read, made in call(merge)):
                pass
        require_same(rows, _rows_at(session, cursor, at), copy)
        unread = _ago(min(seconds, READERS_SECONDS))
        deleted = call(f"ducklake_cleanup_old_files('{LAKE}', older_than => {unread})")
        deleted += call(f"ducklake_delete_orphaned_files('{LAKE}', older_than => {_ago(ORPHANS_SECONDS)})")
        after = _number(cursor, FILES)
        snapshot_id = _number(cursor, f"SELECT id FROM {LAKE}.current_snapshot()")
    return CompactionReport(before, after, len(old), kept, len(deleted), snapshot_id, copy)


def _outdated(session: Session, cursor: duckdb.DuckDBPyConnection, seconds: int) -> tuple[list[int], int]:
    """(snapshots that are so old and may go, how many as old must stay). The newest one stays in any case."""
    found = cursor.execute(
        f"SELECT snapshot_id FROM {LAKE}.snapshots() WHERE snapshot_time <= {_ago(seconds)} "
        f"AND snapshot_id < (SELECT max(snapshot_id) FROM {LAKE}.snapshots()) ORDER BY 1"
    ).fetchall()
    kept = _rested_on(session, cursor)
    old = [int(row[0]) for row in found]
    return [one for one in old if one not in kept], sum(one in kept for one in old)


def _rested_on(session: Session, cursor: duckdb.DuckDBPyConnection) -> set[int]:
    """Snapshots in which somebody was promoted, a step of a rollout was entered, or the report was made that one of
    them names; and those that a step or an adapter names.
    """
    found: set[int] = set()
    for application in {schema for schema, _ in _tables(session)}:
        decisions = [table for table in ("rollout", "rollout_steps") if session.exists(application, table)]
        asked = [("snapshot_id", table, "true") for table in decisions]
        if "references_snapshot" in session.columns(application, "rollout_steps"):
            asked.append(("references_snapshot", "rollout_steps", "true"))
        if session.exists(application, "adapters"):
            asked.append((OF_EXAMPLES, "adapters", "true"))
        if decisions and session.exists(application, "reports"):
            named = " UNION ALL ".join(
                f"SELECT report_id FROM {qualified(LAKE, application, table)}" for table in decisions
            )
            asked.append(("snapshot_id", "reports", f"report_id IN ({named})"))
        for column, table, where in asked:
            name = qualified(LAKE, application, table)
            rows = cursor.execute(f"SELECT DISTINCT {column} FROM {name} WHERE {where}").fetchall()
            found |= {int(row[0]) for row in rows if row[0] is not None}
    return found


def _tables(session: Session, *, at_snapshot: int | None = None) -> list[tuple[str, str]]:
    """(schema, table) of every table that is there, or that was there at a snapshot and still is."""
    tables, schemas = session.metadata("ducklake_table"), session.metadata("ducklake_schema")
    since = "" if at_snapshot is None else f" AND t.begin_snapshot <= {at_snapshot:d}"
    rows = session.rows(
        f"SELECT s.schema_name, t.table_name FROM {tables} t JOIN {schemas} s USING (schema_id) "
        f"WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL{since} ORDER BY 1, 2"
    )
    return [(str(schema), str(table)) for schema, table in rows]


def _rows_at(session: Session, cursor: duckdb.DuckDBPyConnection, snapshot: int) -> dict[tuple[str, str], int]:
    """(schema, table) → rows that its files had at a snapshot."""
    return {
        (schema, table): _number(
            # Counted in the files: `count(*)` would be what the catalog says is in them.
            cursor,
            f"SELECT count(rowid) FROM {qualified(LAKE, schema, table)} AT (VERSION => {snapshot:d})",
        )
        for schema, table in _tables(session, at_snapshot=snapshot)
    }


def require_same(before: dict[tuple[str, str], int], after: dict[tuple[str, str], int], copy: Path | None) -> None:
    """Hold rows by (schema, table) after a compaction against those before it.

    Raises:
        StorageError: a table has another number of them.
    """
    changed = [
        f"{'.'.join(name)} {rows} → {after.get(name, 0)}" for name, rows in before.items() if after.get(name) != rows
    ]
    if changed:
        raise StorageError(
            f"Compaction changed how many rows there are: {'; '.join(sorted(changed))}. No file was deleted. "
            + ("" if copy is None else f"The catalog as it was before is {str(copy)!r}: ")
            + "stop what writes, and put it back as docs/operations/backup.md says."
        )


def _ago(seconds: int) -> str:
    return f"now() - INTERVAL {seconds:d} SECONDS"


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(cursor.execute(sql).fetchall()[0][0])
