"""Copies of published tables in Postgres: all tables of an application in one transaction."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg2

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.records.contracts import ColumnType, Contract
from llm_platform.warehouse.copies import Files, Original
from llm_platform.warehouse.engine import identifier, redacted, with_deadline
from llm_platform.warehouse.session import Session

TYPES: dict[ColumnType, str] = {
    "string": "text",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "money": "numeric(18,4)",
    "list": "text[]",
}
LEDGER = "published_tables"
"""Table beside the copies: which state each is of, and its contract."""
ROWS_AT_ONCE = 5_000
WAIT = "60s"
"""How long a transaction of ours waits for a reader's lock; then the next publication tries again."""
LONGEST_NAME = 63
FULL = "$full"
"""At the end of the schema of tables without masks: no name of an application or a namespace has it."""


def schema_name(namespace: str, application: str, *, full: bool = False) -> str:
    """Schema of the copies: a branch never writes production's, and what is not masked is apart."""
    name = f"{namespace}_{application}{FULL if full else ''}"
    if len(name) <= LONGEST_NAME:
        return name
    from llm_platform.records import content_hash

    return f"{name[: LONGEST_NAME - 17]}_{content_hash(name)}"


@dataclass(frozen=True)
class PostgresPlace:
    """A schema of a Postgres database.

    Attributes:
        dsn: Connection string of libpq; passwords come from PGPASSWORD or PGPASSFILE.
        full: See `CopyPlace`.
    """

    dsn: str
    schema: str
    full: bool = False

    @property
    def address(self) -> str:
        """The database without secrets, and the schema."""
        return f"postgres:{redacted(self.dsn)} (schema {self.schema})"

    def bring(self, session: Session, originals: Sequence[Original], files: Files) -> list[str]:
        """See `CopyPlace`. Readers see all tables as they were or all as they are, whatever they read meanwhile."""
        try:
            # One transaction, which ends with the block; a process that dies leaves what was there.
            with (
                closing(psycopg2.connect(with_deadline(self.dsn))) as connection,
                connection,
                connection.cursor() as cursor,
            ):
                return self._brought(session, cursor, originals, files)
        except psycopg2.Error as error:
            raise self._error(error) from None

    def erase(self, session: Session) -> int:
        """See `CopyPlace`. What was deleted stays in the pages of a table until it is written anew."""
        del session
        try:
            connection = psycopg2.connect(with_deadline(self.dsn))
            try:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('lock_timeout', %s, false)", [WAIT])
                    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [self.schema])
                    for (table,) in cursor.fetchall():
                        cursor.execute(f"VACUUM (FULL, ANALYZE) {self._name(table)}")
            finally:
                connection.close()
        except psycopg2.Error as error:
            raise self._error(error) from None
        return 0

    def _brought(self, session: Session, cursor: Any, originals: Sequence[Original], files: Files) -> list[str]:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [WAIT])
        if not _there(cursor, f"{identifier(self.schema)}.{LEDGER}"):
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(self.schema)}")
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {self._name(LEDGER)} (table_name text PRIMARY KEY, version text NOT NULL, "
                "state text NOT NULL, json_schema jsonb NOT NULL, odcs text NOT NULL, copied_at timestamptz NOT NULL)"
            )
        cursor.execute(f"SELECT table_name, state, json_schema FROM {self._name(LEDGER)} FOR UPDATE")
        stored = {name: (state, schema) for name, state, schema in cursor.fetchall()}
        done = []
        for one in originals:
            name = one.contract.table
            state, schema = stored.pop(name, (None, {}))
            if state == one.state and _there(cursor, self._name(name)):
                continue
            self._remask(cursor, one, schema)
            self._copy(session, cursor, one, files)
            done.append(f"{name} to {self.address}")
        for name in stored:
            cursor.execute(f"DROP TABLE IF EXISTS {self._name(name)}")
            cursor.execute(f"DELETE FROM {self._name(LEDGER)} WHERE table_name = %s", [name])
            done.append(f"{name} was taken away from {self.address}")
        return done

    def _copy(self, session: Session, cursor: Any, original: Original, files: Files) -> None:
        contract = original.contract
        name, key = self._name(contract.table), identifier(contract.key)
        columns = [(identifier(one.name), TYPES[one.type]) for one in contract.columns]
        self._make(cursor, contract)
        cursor.execute(f"CREATE TEMP TABLE incoming ({', '.join(' '.join(one) for one in columns)}) ON COMMIT DROP")
        for lines in _lines(session, original):
            cursor.copy_expert("COPY incoming FROM STDIN", lines)
        cursor.execute(f"ALTER TABLE incoming ADD PRIMARY KEY ({key})")
        cursor.execute("ANALYZE incoming")
        cursor.execute(f"DELETE FROM {name} t WHERE NOT EXISTS (SELECT 1 FROM incoming i WHERE i.{key} = t.{key})")
        listed = ", ".join(column for column, _ in columns)
        cursor.execute(
            f"INSERT INTO {name} AS t ({listed}) SELECT {listed} FROM incoming ON CONFLICT ({key}) DO UPDATE SET "
            f"({listed}) = ROW({', '.join(f'excluded.{column}' for column, _ in columns)}) "
            f"WHERE ({', '.join(f't.{column}' for column, _ in columns)}) IS DISTINCT FROM "
            f"({', '.join(f'excluded.{column}' for column, _ in columns)})"
        )
        cursor.execute("DROP TABLE incoming")
        odcs, schema = files(contract).values()
        cursor.execute(
            f"INSERT INTO {self._name(LEDGER)} AS t VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (table_name) DO "
            "UPDATE SET (version, state, json_schema, odcs, copied_at) = "
            "(excluded.version, excluded.state, excluded.json_schema, excluded.odcs, excluded.copied_at)",
            [contract.table, contract.version, original.state, schema, odcs],
        )

    def _remask(self, cursor: Any, original: Original, schema: dict[str, Any]) -> None:
        """Make room for other masks: what readers do not get any more stays in no page of the table."""
        changed = original.remasked(schema)
        name = self._name(original.contract.table)
        if not changed or not _there(cursor, name):
            return
        cursor.execute(f"TRUNCATE {name}")
        for one in changed:
            column = identifier(one.name)
            if one.mask == "drop":
                cursor.execute(f"ALTER TABLE {name} DROP COLUMN IF EXISTS {column}")
            elif one.name != original.contract.key:
                kind = TYPES[one.for_readers().type]
                cursor.execute(f"ALTER TABLE {name} ALTER COLUMN {column} TYPE {kind} USING NULL::{kind}")

    def _make(self, cursor: Any, contract: Contract) -> None:
        """The table with the columns of the contract; further ones are added, and none is taken away."""
        name = self._name(contract.table)
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            [self.schema, contract.table],
        )
        there = {column for (column,) in cursor.fetchall()}
        missing = [one for one in contract.columns if one.name not in there]
        if not there:
            listed = ", ".join(f"{identifier(one.name)} {TYPES[one.type]}" for one in contract.columns)
            cursor.execute(f"CREATE TABLE {name} ({listed}, PRIMARY KEY ({identifier(contract.key)}))")
        elif missing:
            added = ", ".join(f"ADD COLUMN {identifier(one.name)} {TYPES[one.type]}" for one in missing)
            cursor.execute(f"ALTER TABLE {name} {added}")
        for one in missing:
            cursor.execute(f"COMMENT ON COLUMN {name}.{identifier(one.name)} IS %s", [one.said])

    def _name(self, table: str) -> str:
        return f"{identifier(self.schema)}.{identifier(table)}"

    def _error(self, error: psycopg2.Error) -> PlatformError:
        # What Postgres says of a statement may quote its values.
        doing = f"Cannot keep the copy at {self.address}"
        if error.pgcode == "42501":
            return StorageError(f"{doing}: this role may not write there. Give it the right to.")
        if error.pgcode == "55P03":
            return TransientError(f"{doing}: a reader has held a table for {WAIT}. Run again.")
        if isinstance(error, psycopg2.OperationalError):
            return TransientError(f"{doing}: Postgres does not answer, or let us in. Check it, then run again.")
        return StorageError(f"{doing}: Postgres refuses it (code {error.pgcode}).")


def _there(cursor: Any, name: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
    return bool(cursor.fetchone()[0])


def _lines(session: Session, original: Original) -> Iterator[io.StringIO]:
    """Rows as Postgres reads them from a stream, some thousands at a time."""
    with session.cursor(f"copy {original.contract.table!r} of") as cursor:
        original.prepare(session, cursor)
        cursor.execute(original.select)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield io.StringIO("".join("\t".join(map(_written, row)) + "\n" for row in rows))


def _quoted(item: str) -> str:
    escaped = item.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _written(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list):
        value = "{" + ",".join("NULL" if one is None else _quoted(one) for one in value) + "}"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if not isinstance(value, str):
        return str(value)
    # No text of Postgres holds NUL.
    escaped = value.replace("\0", "").replace("\\", "\\\\").replace("\t", "\\t")
    return escaped.replace("\n", "\\n").replace("\r", "\\r")
