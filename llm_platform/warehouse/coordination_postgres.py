"""Coordination of a lake with a Postgres catalog: advisory locks, and leases in a schema of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.files import said_when_slow
from llm_platform.warehouse.coordination import LEASES_DDL, WAIT_SECONDS, Statements
from llm_platform.warehouse.engine import REFUSED, redacted, with_deadline

LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""What a server that went away leaves: the second is said by what would roll back on a connection that is closed."""


class PostgresStatements:
    """`Statements` over a psycopg2 cursor."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of one statement."""
        self._cursor.execute(sql, tuple(parameters))
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """How many rows one statement changed."""
        self._cursor.execute(sql, tuple(parameters))
        return int(self._cursor.rowcount)


def leases_schema(metadata_schema: str) -> str:
    """The schema beside a catalog's, in which its writers are kept apart."""
    return f"{metadata_schema}_leases"


class PostgresCoordinator:
    """Coordination of a Postgres catalog: advisory locks, and a table in the schema `<metadata schema>_leases`."""

    row_lock = " FOR UPDATE"
    mark_is_free = False

    def __init__(self, dsn: str, metadata_schema: str, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._dsn = dsn
        self._schema = leases_schema(metadata_schema)
        self._scope = metadata_schema
        self._wait_seconds = wait_seconds
        self._prepared = False
        self._idle: list[Any] = []
        self._idle_guard = threading.Lock()
        self.leases = f'"{self._schema}"."leases"'
        self.requests = f'"{self._schema}"."forget_requests"'

    def has_catalog(self) -> bool:
        """Whether the catalog's schema holds DuckLake's tables."""
        with self._locked(None) as statements:
            return statements.run("SELECT to_regclass(%s)", [f'"{self._scope}"."ducklake_metadata"'])[0][0] is not None

    @contextmanager
    def write_lock(self, scope: str, /) -> Iterator[None]:
        """One writer at a time in this application of this lake."""
        with self._locked(f"write:{scope}"):
            yield

    @contextmanager
    def transaction(self, key: str, /) -> Iterator[Statements]:
        """A transaction that waits for others with the same `key`."""
        with self._locked(f"leases:{key}") as statements:
            if not self._prepared:
                self._prepare(statements)
            yield statements

    def mark(self) -> object:
        """The newest snapshot."""
        with self._locked(None) as statements:
            return statements.run(f'SELECT max(snapshot_id) FROM "{self._scope}"."ducklake_snapshot"')[0][0]

    def settled_mark(self) -> object:
        """The same: what a snapshot's row can be read of was committed with it."""
        return self.mark()

    def erase(self) -> None:
        """Write the table of requests anew, without what was deleted in it."""
        try:
            with closing(psycopg2.connect(with_deadline(self._dsn))) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(f"VACUUM (FULL) {self.requests}")
        except psycopg2.Error as error:
            raise self._error(error) from None

    def now(self) -> float:
        """The server's clock: holders are on many machines."""
        with self._locked(None) as statements:
            return float(statements.run("SELECT extract(epoch FROM clock_timestamp())")[0][0])

    @contextmanager
    def _locked(self, key: str | None) -> Iterator[PostgresStatements]:
        try:
            with self._connection() as connection, connection, connection.cursor() as cursor:
                statements = PostgresStatements(cursor)
                if key is not None:
                    with said_when_slow(f"another process that writes the lake {self._scope!r}"):
                        statements.run(
                            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{self._scope}/{key}"]
                        )
                yield statements
        except psycopg2.Error as error:
            raise self._error(error) from None

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._kept() or self._begun(psycopg2.connect(with_deadline(self._dsn)))
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._idle_guard:
            self._idle.append(connection)

    def _kept(self) -> Any:
        """A connection of an earlier call, in a transaction; None without one whose server is still there."""
        with self._idle_guard:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            return None
        try:
            return self._begun(connection)
        except LOST:
            connection.close()
            return None

    def _begun(self, connection: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = %s", [f"{int(self._wait_seconds * 1000)}ms"])
        return connection

    def _prepare(self, statements: PostgresStatements) -> None:
        # CREATE … IF NOT EXISTS asks for the right to create even when the thing exists.
        if statements.run("SELECT to_regclass(%s)", [self.leases])[0][0] is None:
            statements.run("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{self._scope}/create"])
            if not statements.run("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self._schema]):
                statements.run(f'CREATE SCHEMA "{self._schema}"')
            statements.run(LEASES_DDL.format(table=self.leases))
        self._prepared = True

    def _error(self, error: psycopg2.Error) -> PlatformError:
        # What Postgres says of a statement may quote its values; what it says of a connection names host and user.
        connecting = error.pgcode is None and isinstance(error, psycopg2.OperationalError) and str(error).strip()
        text = redacted(str(error).strip().splitlines()[0]) if connecting else _refusal(error)
        if error.pgcode == "42501":
            return StorageError(
                f"Cannot write the lake {self._scope!r}: {text}. This role may only read it; use a namespace of your "
                "own."
            )
        if error.pgcode == "55P03":
            return TransientError(
                f"Waited {self._wait_seconds:.0f} s to write the lake {self._scope!r}: another process is writing. "
                "Run again."
            )
        if connecting and any(mark in text.lower() for mark in REFUSED):
            return StorageError(
                f"Postgres of the lake {self._scope!r} does not accept this user or its password: {text}. Correct them."
            )
        if isinstance(error, LOST):
            return TransientError(
                f"Postgres of the lake {self._scope!r} does not answer: {text}. Check it, then run again."
            )
        return StorageError(f"Cannot write the leases of the lake {self._scope!r}: {text}")

    def close(self) -> None:
        """Close the connections kept for the next call."""
        with self._idle_guard:
            while self._idle:
                self._idle.pop().close()


def catalog_schemas(dsn: str) -> list[str]:
    """Schemas of a database that hold a catalog of DuckLake's.

    Raises:
        TransientError: it does not answer.
    """
    try:
        with closing(psycopg2.connect(with_deadline(dsn))) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE relname = 'ducklake_metadata' AND relkind = 'r' ORDER BY 1"
            )
            return [row[0] for row in cursor.fetchall()]
    except psycopg2.Error as error:
        raise TransientError(
            f"Cannot list the namespaces at {redacted(dsn)!r}: {_refusal(error)}. Run again."
        ) from None


def _refusal(error: psycopg2.Error) -> str:
    if error.pgcode == "42501":
        return "permission denied"
    return f"{type(error).__name__}, SQLSTATE {error.pgcode or 'unknown'}"
