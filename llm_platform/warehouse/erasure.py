"""Leaving nothing of removed rows in the bytes of a lake: not in files, not in snapshots, not in the catalog's pages.

A removed row is still there: in the file that it was written to, beside a note that it is removed, and in every
snapshot from before. So files with removed rows are written anew, all snapshots but the newest expire, files that
nothing names any more are deleted at once, with their versions where an object store keeps such, and the catalog is
written anew.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.object_versions import purge_versions
from llm_platform.warehouse.session import LAKE, Session
from llm_platform.warehouse.statistics import FILES, TABLE, erased, in_postgres, in_sqlite


@dataclass(frozen=True)
class Erased:
    """What one erasure did to files.

    Attributes:
        versions: Versions of objects that were deleted in a store that keeps them; None where it could not be asked.
        refused: Versions that the store does not let go of, such as those under an object lock.
    """

    snapshots: int
    rewritten: int
    deleted: int
    versions: int
    refused: int


def erase(session: Session, *, kind: str, target: str, schema: str, data_path: str, s3: S3Access | None) -> Erased:
    """Do it, with every writer of the lake kept out meanwhile.

    Raises:
        TransientError: others kept the catalog busy.
        StorageError: a file cannot be deleted.
    """
    with ExitStack() as locks:
        # In one order, so that two erasures do not wait for each other.
        scopes = {"compact"} if kind == "sqlite" else {"compact", *_schemas(session)}
        for scope in sorted(scopes):
            locks.enter_context(session.coordinator.write_lock(scope))
        with session.cursor("erase removed rows of") as cursor:

            def call(statement: str) -> list[tuple[object, ...]]:
                return session.retried("erasure", lambda: cursor.execute(f"CALL {statement}").fetchall())

            call(f"ducklake_flush_inlined_data('{LAKE}')")
            rewritten = call(f"ducklake_rewrite_data_files('{LAKE}', delete_threshold => 0)")
            snapshots = call(f"ducklake_expire_snapshots('{LAKE}', older_than => now() + INTERVAL 1 DAY)")
            deleted = call(f"ducklake_cleanup_old_files('{LAKE}', cleanup_all => true)")
            deleted += call(f"ducklake_delete_orphaned_files('{LAKE}', cleanup_all => true)")
        _written_anew(kind, target, schema)
    versions, refused = (0, 0) if s3 is None else purge_versions(s3, data_path)
    return Erased(len(snapshots), len(rewritten), len(deleted), versions, refused)


def _schemas(session: Session) -> list[str]:
    rows = session.rows(
        f"SELECT DISTINCT schema_name FROM {session.metadata('ducklake_schema')} WHERE end_snapshot IS NULL"
    )
    return [row[0] for row in rows]


def _written_anew(kind: str, target: str, schema: str) -> None:
    if kind == "sqlite":
        in_sqlite(Path(target), erased())
        return
    prefix = identifier(schema)
    written = [f"VACUUM (FULL, ANALYZE) {prefix}.{table}" for table in (FILES, TABLE)]
    in_postgres(target, [], written, schema=schema)


def leftovers(session: Session, cursor: duckdb.DuckDBPyConnection, data_path: str) -> list[str]:
    """Parquet files below the lake's data that its catalog does not name.

    Raises:
        StorageError: the place cannot be listed.
    """
    pattern = literal(f"{data_path.rstrip('/')}/**/*.parquet")
    try:
        there = {str(row[0]) for row in cursor.execute(f"SELECT file FROM glob({pattern})").fetchall()}
    except duckdb.Error as error:
        raise StorageError(f"Cannot list the files of the lake at {session.address}.") from error
    known = {
        str(row[0]).rpartition("/")[2]
        for table in ("ducklake_data_file", "ducklake_delete_file")
        for row in cursor.execute(f"SELECT path FROM {session.metadata(table)}").fetchall()
    }
    return sorted(one for one in there if one.rpartition("/")[2] not in known)
