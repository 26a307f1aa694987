"""A catalog in Postgres whose content is exchanged in one transaction: its tables, and the rights on them, stay."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from llm_platform.errors import TransientError
from llm_platform.warehouse.engine import identifier, redacted, with_deadline
from llm_platform.warehouse.statistics import postgres_error

BUSY_SECONDS = 20
GONE_SECONDS = 10.0
"""So long connections of our own may take to be gone from the server's list."""
ENDED_SECONDS = 5.0
"""So long those of a process that was stopped just now may take."""
OURS = r"ducklake\_%"
"""Names of DuckLake's tables; leases and requests are in a schema of their own."""


def has_lake(dsn: str, schema: str) -> bool:
    """Whether DuckLake's tables are in a schema."""
    with _cursor(dsn, schema) as cursor:
        return bool(_tables(cursor, schema))


def sessions(dsn: str, schema: str) -> list[str]:
    """Who else is connected to the database of a catalog, of those who may read it, in words."""
    with _cursor(dsn, schema) as cursor:
        return _still_there(cursor, schema, seconds=ENDED_SECONDS)


def run(dsn: str, schema: str, statements: Sequence[str]) -> None:
    """Run statements in one transaction, among the tables of a schema."""
    with _cursor(dsn, schema) as cursor:
        cursor.execute(f"SET LOCAL search_path TO {identifier(schema)}")
        for statement in statements:
            cursor.execute(statement)


def exchange(dsn: str, schema: str, new: str, *, newest: int) -> None:
    """Put the content of one catalog into the tables of another, and remove the first.

    Args:
        newest: The snapshot that the content was made of.

    Raises:
        TransientError: somebody is connected, or has written meanwhile; nothing was changed.
    """
    address = f"the lake at {redacted(dsn)!r} (schema {schema!r})"
    with _cursor(dsn, schema) as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
        old, made = _tables(cursor, schema), _tables(cursor, new)
        named = ", ".join(f"{identifier(schema)}.{identifier(table)}" for table in old)
        cursor.execute(f"LOCK TABLE {named} IN ACCESS EXCLUSIVE MODE")
        others = _still_there(cursor, schema, seconds=GONE_SECONDS)
        cursor.execute(f"SELECT max(snapshot_id) FROM {identifier(schema)}.ducklake_snapshot")
        if others or cursor.fetchone() != (newest,):
            who = " and ".join(others) or "somebody has written it meanwhile, who"
            raise TransientError(
                f"Cannot encrypt {address}: {who} has it open. Nothing was changed; stop what runs there, Dagster and "
                "readers included, then run this again."
            )
        for table in old:
            place = f"{identifier(schema)}.{identifier(table)}"
            if table not in made:
                cursor.execute(f"DROP TABLE {place}")
                continue
            columns = ", ".join(map(identifier, _columns(cursor, new, table)))
            cursor.execute(f"TRUNCATE {place}")
            cursor.execute(
                f"INSERT INTO {place} ({columns}) SELECT {columns} FROM {identifier(new)}.{identifier(table)}"
            )
        for table in sorted(set(made) - set(old)):
            cursor.execute(f"ALTER TABLE {identifier(new)}.{identifier(table)} SET SCHEMA {identifier(schema)}")
        cursor.execute(f"DROP SCHEMA {identifier(new)} CASCADE")


def _still_there(cursor: Any, schema: str, *, seconds: float) -> list[str]:
    until = time.monotonic() + seconds
    while (others := _others(cursor, schema)) and time.monotonic() < until:
        time.sleep(0.1)
    return others


def _others(cursor: Any, schema: str) -> list[str]:
    # What a transaction has read once of these statistics stays as it was, unless it is told to forget it.
    cursor.execute("SELECT pg_stat_clear_snapshot()")
    cursor.execute(
        "SELECT pid, coalesce(host(client_addr), 'its own machine'), usename FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
        "AND has_schema_privilege(usesysid, %s, 'USAGE') ORDER BY 1",
        [schema],
    )
    return [f"role {role!r} from {host} (session {pid})" for pid, host, role in cursor.fetchall()]


def _tables(cursor: Any, schema: str) -> list[str]:
    cursor.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name LIKE %s ORDER BY 1",
        [schema, OURS],
    )
    return [name for (name,) in cursor.fetchall()]


def _columns(cursor: Any, schema: str, table: str) -> list[str]:
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY "
        "ordinal_position",
        [schema, table],
    )
    return [name for (name,) in cursor.fetchall()]


@contextmanager
def _cursor(dsn: str, schema: str) -> Iterator[Any]:
    try:
        with closing(psycopg2.connect(with_deadline(dsn))) as connection, connection, connection.cursor() as cursor:
            yield cursor
    except psycopg2.Error as error:
        raise postgres_error(
            error,
            f"encrypt the lake at {redacted(dsn)!r} (schema {schema!r})",
            denied="this role does not own its catalog, or may make no schema beside it. Let the role that owns it run "
            "this.",
        ) from None
