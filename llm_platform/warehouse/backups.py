"""Copies of a catalog, made before snapshots of it are let go of."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.warehouse.engine import identifier, literal, rollback
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.statistics import in_sqlite

FOLDER = "catalog_copies"
"""Of a namespace, beside its journals."""
KEPT = 3
"""Newest copies that stay: files that an older one names are gone."""
ALIAS = "catalog_copy"


def back_up(session: Session, cursor: duckdb.DuckDBPyConnection, folder: Path, *, kind: str, target: str) -> Path:
    """Copy the catalog, as of one moment, into a new file of `folder`; of older copies the newest stay.

    A copy is a catalog that DuckLake opens: a SQLite file, or for one in Postgres a DuckDB file with its tables.

    Args:
        session: Of the lake.
        cursor: Outside of a transaction.
        folder: Made where there is none.
        kind: `sqlite` or `postgres`.
        target: File of a SQLite catalog.

    Raises:
        StorageError: it cannot be written; nothing is left of it.
        TransientError: others keep the catalog busy; nor is then.
    """
    suffix = "sqlite" if kind == "sqlite" else "duckdb"
    copy = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.{suffix}"
    part = copy.with_suffix(".part")
    try:
        # Keys of encrypted files are in a catalog: nobody else reaches what is in this folder.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kind == "sqlite":
            # Not by this process: to close a file that is open elsewhere in it would take the locks of both.
            in_sqlite(Path(target), [f"VACUUM INTO {literal(str(part))}"])
        else:
            _of_postgres(session, cursor, part)
        part.chmod(0o600)
        part.rename(copy)
        for old in sorted(folder.glob(f"*.{suffix}"))[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, PlatformError, duckdb.Error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        cannot = f"Cannot copy the catalog of the lake at {session.address} to {str(folder)!r}"
        if isinstance(error, TransientError):
            raise TransientError(f"{cannot}: others keep it busy. Nothing was changed; run again.") from None
        raise StorageError(
            f"{cannot} ({type(error).__name__}). No snapshot is let go of without a copy, so nothing was changed. Free "
            "space there, or make it writable."
        ) from None
    return copy


def _of_postgres(session: Session, cursor: duckdb.DuckDBPyConnection, part: Path) -> None:
    cursor.execute(f"ATTACH {literal(str(part))} AS {ALIAS}")
    try:
        cursor.begin()
        # Of its own tables, and of those in which a program that inlines small writes has put rows of ours.
        catalog, schema = session.metadata_place
        listed = literal(f"SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = {literal(schema)}")
        tables = cursor.execute(f"SELECT * FROM postgres_query({literal(catalog)}, {listed})").fetchall()
        for (table,) in tables:
            copied = f"{ALIAS}.{identifier(table)}"
            cursor.execute(f"CREATE TABLE {copied} AS SELECT * FROM {session.metadata(table)}")
        cursor.commit()
    except BaseException:
        rollback(cursor)
        raise
    finally:
        cursor.execute(f"DETACH {ALIAS}")
