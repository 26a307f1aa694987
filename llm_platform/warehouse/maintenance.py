"""Compaction: fewer and larger files, and no more history than is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from llm_platform.warehouse.session import LAKE, Session

FILES = f"SELECT coalesce(sum(file_count + delete_file_count), 0) FROM {LAKE}.table_info()"
READERS_SECONDS = 3600
"""How long a file outlives its last snapshot: somebody may have begun to read it."""
ORPHANS_SECONDS = 86_400
"""Age from which a file that no snapshot names was left by a process that died, and is not about to be committed."""


@dataclass(frozen=True)
class CompactionReport:
    """What one compaction did; files are Parquet files of rows and of deletions."""

    files_before: int
    files_after: int
    snapshots_expired: int
    files_deleted: int
    snapshot_id: int


def compact(session: Session, *, keep_days: float) -> CompactionReport:
    """Merge small files, expire old snapshots, delete files that nothing refers to. Rows stay as they are."""
    with session.cursor("compact") as cursor:

        def call(statement: str) -> list[tuple[object, ...]]:
            # One lock per step, so that writers waiting for it get in between.
            with session.coordinator.write_lock("compact"):
                return session.retried("compaction", lambda: cursor.execute(f"CALL {statement}").fetchall())

        before = _number(cursor, FILES)
        seconds = int(keep_days * 86_400)
        expired = call(f"ducklake_expire_snapshots('{LAKE}', older_than => {_ago(seconds)})")
        call(f"ducklake_rewrite_data_files('{LAKE}')")
        call(f"ducklake_merge_adjacent_files('{LAKE}')")
        unread = _ago(min(seconds, READERS_SECONDS))
        deleted = call(f"ducklake_cleanup_old_files('{LAKE}', older_than => {unread})")
        deleted += call(f"ducklake_delete_orphaned_files('{LAKE}', older_than => {_ago(ORPHANS_SECONDS)})")
        after = _number(cursor, FILES)
        snapshot_id = _number(cursor, f"SELECT id FROM {LAKE}.current_snapshot()")
    return CompactionReport(before, after, len(expired), len(deleted), snapshot_id)


def _ago(seconds: int) -> str:
    return f"now() - INTERVAL {seconds:d} SECONDS"


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(cursor.execute(sql).fetchall()[0][0])
