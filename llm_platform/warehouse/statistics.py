"""Keeps what documents say out of the catalog's statistics: DuckLake writes the smallest and largest value of every
column of every file into its catalog, which more people may read than the files.

A trigger in the catalog's own database takes them out of what is inserted and updated, so they are in no transaction of
any writer, also not of an older version or of another program. Only columns in `records.sensitive.OURS` keep theirs. A
file without a smallest and largest value is never passed over: DuckLake reads it, and Parquet's own statistics, which
lie in the file beside the texts, still say which parts of it need not be unpacked.

Rows that another program has put into the catalog itself are moved into files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import psycopg2

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.records.sensitive import OURS
from llm_platform.records.tables import TO_EVERY_READER
from llm_platform.warehouse.engine import identifier, literal, platform_error, redacted, with_deadline
from llm_platform.warehouse.session import LAKE

MARK = "llm_platform_statistics"
"""Key of the row in `ducklake_metadata` that says by which rules a catalog was cleaned."""

FILES = "ducklake_file_column_stats"
TABLE = "ducklake_table_column_stats"
VALUES = ("min_value", "max_value", "extra_stats")
FILE_COLUMNS = ("data_file_id", "table_id", "column_id", "column_size_bytes", "value_count", "null_count")
TRIGGER = "llm_platform_keeps_texts_out"
BUSY_SECONDS = 20

_IN_SQLITE = """
import json, sqlite3, sys
given = json.load(sys.stdin)
database = sqlite3.connect(given["file"], timeout=given["seconds"], isolation_level=None)
try:
    for statement in given["statements"]:
        rows = database.execute(statement).fetchall()
        if statement.startswith("PRAGMA wal_checkpoint") and rows and rows[0][0]:
            sys.exit("database is locked")
except sqlite3.Error as error:
    sys.exit(str(error))
"""
"""Run by a process of its own: closing a file of SQLite here frees the locks that DuckDB's SQLite holds on it."""


def keep_texts_out(
    connection: duckdb.DuckDBPyConnection, *, kind: str, target: str, schema: str, alias: str = LAKE
) -> None:
    """Install the trigger in a catalog that has none, and take out what was written before.

    Args:
        connection: Has the lake attached under `alias`, writable, with nothing open.
        kind: `sqlite` or `postgres`.
        target: The catalog's file or connection string.
        schema: Of its tables.

    Raises:
        StorageError: this user may not change the catalog's tables.
    """
    rules = _rules(kind)
    catalog = f"{identifier('__ducklake_metadata_' + alias)}.{identifier(schema)}"
    inlined = _inlined(connection, catalog)
    found = connection.execute(f"SELECT value FROM {catalog}.ducklake_metadata WHERE key = '{MARK}'").fetchall()
    if found == [(rules,)] and not inlined:
        return
    if inlined:
        connection.execute(f"CALL ducklake_flush_inlined_data('{alias}')")
    try:
        if kind == "sqlite":
            in_sqlite(Path(target), [*_sqlite_triggers(), *_mended(""), *_marked("", rules), *erased()])
        else:
            _in_postgres(target, schema, rules, inlined)
    except TransientError:
        # Somebody is reading. The trigger stands; what older versions left is taken out at the next chance.
        connection.execute(f"DELETE FROM {catalog}.ducklake_metadata WHERE key = '{MARK}'")


def _inlined(connection: duckdb.DuckDBPyConnection, catalog: str) -> list[str]:
    """Tables of the catalog that hold rows of our tables, put there by a program that inlines small writes."""
    names = connection.execute(f"SELECT DISTINCT table_name FROM {catalog}.ducklake_inlined_data_tables").fetchall()
    return [
        str(name)
        for (name,) in names
        if connection.execute(f"SELECT 1 FROM {catalog}.{identifier(name)} LIMIT 1").fetchall()
    ]


def in_sqlite(file: Path, statements: Sequence[str]) -> None:
    """Run statements on a SQLite catalog while this process has it attached.

    Raises:
        TransientError: others kept it busy.
        StorageError: SQLite refuses.
    """
    given = json.dumps({"file": str(file), "seconds": BUSY_SECONDS, "statements": list(statements)})
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _IN_SQLITE], input=given, text=True, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        if "locked" in said:
            raise TransientError(f"Cannot clean the catalog {str(file)!r}: other processes kept it busy. Run again.")
        raise platform_error(duckdb.Error(said), f"clean the catalog {str(file)!r}")


def erased() -> list[str]:
    """Statements that leave nothing of deleted rows in a SQLite file or its log."""
    return ["PRAGMA secure_delete = ON", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]


def _rules(kind: str) -> str:
    return hashlib.sha256(repr((kind, sorted(OURS), _IN_SQLITE, _sqlite_triggers(), _FUNCTION)).encode()).hexdigest()


def _is_ours(prefix: str, row: str) -> str:
    """SQL: whether a row of statistics is of a column that may have them."""
    names, published = (", ".join(map(literal, sorted(one))) for one in (OURS, OURS & set(TO_EVERY_READER)))
    return (
        f"EXISTS (SELECT 1 FROM {prefix}ducklake_column c WHERE c.table_id = {row}table_id "
        f"AND c.column_id = {row}column_id AND c.column_name IN ({names}) "
        # Further columns of a published table hold fields of answers, which may be called like a column of ours.
        f"AND (c.column_name IN ({published}) OR NOT EXISTS (SELECT 1 FROM {prefix}ducklake_table t "
        "WHERE t.table_id = c.table_id AND t.table_name LIKE 'published%')))"
    )


def _sqlite_triggers() -> list[str]:
    holds = " OR ".join(f"NEW.{name} IS NOT NULL" for name in VALUES)
    when = f"WHEN ({holds}) AND NOT {_is_ours('', 'NEW.')}"
    file_values = ", ".join(f"NEW.{name}" for name in FILE_COLUMNS)
    bodies = {
        # The row is put in its place instead of being corrected: then no page ever held the values.
        (FILES, "INSERT"): f"INSERT INTO {FILES} ({', '.join(FILE_COLUMNS)}, contains_nan) "
        f"VALUES ({file_values}, NEW.contains_nan)",
        (TABLE, "INSERT"): f"INSERT INTO {TABLE} (table_id, column_id, contains_null, contains_nan) "
        "VALUES (NEW.table_id, NEW.column_id, NEW.contains_null, NEW.contains_nan)",
        (TABLE, "UPDATE"): f"UPDATE {TABLE} SET contains_null = NEW.contains_null, contains_nan = NEW.contains_nan, "
        "min_value = NULL, max_value = NULL, extra_stats = NULL WHERE rowid = OLD.rowid",
    }
    made = ["BEGIN IMMEDIATE"]
    for (table, event), body in bodies.items():
        name = f"{TRIGGER}_{table}_{event.lower()}"
        made += [
            f"DROP TRIGGER IF EXISTS {name}",
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} {when} BEGIN {body}; SELECT RAISE(IGNORE); END",
        ]
    return made


def _mended(prefix: str) -> list[str]:
    cleared = ", ".join(f"{name} = NULL" for name in VALUES)
    holds = " OR ".join(f"{name} IS NOT NULL" for name in VALUES)
    made = [
        f"UPDATE {prefix}{table} SET {cleared} WHERE ({holds}) AND NOT {_is_ours(prefix, f'{prefix}{table}.')}"
        for table in (FILES, TABLE)
    ]
    # Of a column that had to have none until now. For DuckLake such a table has no values yet: the next file's would
    # become those of all, and rows outside of them would not be found. Without a row, they stay unknown for ever.
    unknown = (
        f"DELETE FROM {prefix}{TABLE} WHERE min_value IS NULL AND {_is_ours(prefix, f'{prefix}{TABLE}.')} "
        f"AND EXISTS (SELECT 1 FROM {prefix}ducklake_data_file f WHERE f.table_id = {prefix}{TABLE}.table_id)"
    )
    return [*made, unknown]


def _marked(prefix: str, rules: str) -> list[str]:
    marked = f"INSERT INTO {prefix}ducklake_metadata (key, value) VALUES ({literal(MARK)}, {literal(rules)})"
    return [f"DELETE FROM {prefix}ducklake_metadata WHERE key = {literal(MARK)}", marked, "COMMIT"]


_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {{prefix}}{TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF (NEW.min_value IS NOT NULL OR NEW.max_value IS NOT NULL OR NEW.extra_stats IS NOT NULL) AND NOT {{is_ours}} THEN
        NEW.min_value := NULL;
        NEW.max_value := NULL;
        NEW.extra_stats := NULL;
    END IF;
    RETURN NEW;
END $body$
"""


def _in_postgres(dsn: str, schema: str, rules: str, inlined: Sequence[str]) -> None:
    prefix = f"{identifier(schema)}."
    made = [_FUNCTION.format(prefix=prefix, is_ours=_is_ours(prefix, "NEW."))]
    for table in (FILES, TABLE):
        made += [
            f"DROP TRIGGER IF EXISTS {TRIGGER} ON {prefix}{table}",
            f"CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE ON {prefix}{table} "
            f"FOR EACH ROW EXECUTE FUNCTION {prefix}{TRIGGER}()",
        ]
    # What is deleted stays in the pages of a table, and what was the most common in the statistics of Postgres itself.
    written_anew = [f"VACUUM (FULL, ANALYZE) {prefix}{table}" for table in (FILES, TABLE)]
    written_anew += [f"VACUUM (FULL, ANALYZE) {prefix}{identifier(table)}" for table in inlined]
    in_postgres(dsn, [*made, *_mended(prefix), *_marked(prefix, rules)[:-1]], written_anew, schema=schema)


def in_postgres(dsn: str, statements: Sequence[str], afterwards: Sequence[str], *, schema: str) -> None:
    """Run statements in one transaction on a Postgres catalog, and others after it, each by itself.

    Raises:
        TransientError: others kept its tables busy, or it does not answer.
        StorageError: this role may not.
    """
    try:
        connection = psycopg2.connect(with_deadline(dsn))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = %s", [f"{BUSY_SECONDS}s"])
                for statement in statements:
                    cursor.execute(statement)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
                for statement in afterwards:
                    cursor.execute(statement)
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise postgres_error(
            error,
            f"keep texts out of the statistics of the catalog at {redacted(dsn)!r} (schema {schema!r})",
            denied="permission denied. This role does not own its tables. Let the role that owns them open it for "
            "writing once, or use a namespace of your own.",
        ) from None


def postgres_error(error: psycopg2.Error, doing: str, *, denied: str) -> PlatformError:
    """What Postgres says of a catalog, in words of ours.

    Args:
        doing: What was attempted, on what.
        denied: Why this role may not, and what to do.
    """
    if error.pgcode == "42501":
        return StorageError(f"Cannot {doing}: {denied}")
    if error.pgcode in ("55P03", "40001", "40P01") or isinstance(error, psycopg2.OperationalError):
        return TransientError(f"Cannot {doing}: it is busy or does not answer. Run again.")
    return StorageError(f"Cannot {doing}: {type(error).__name__}, SQLSTATE {error.pgcode or 'unknown'}.")
