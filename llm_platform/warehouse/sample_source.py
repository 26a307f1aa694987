"""Playing the upstream warehouse: a DuckLake table made equal to an Arrow table, as its owner would.

For the shipped samples and for tests. The platform itself never writes a source.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from llm_platform.errors import ContractBroken, SpecificationError, StorageError
from llm_platform.warehouse.coordination import Coordinator
from llm_platform.warehouse.coordination_postgres import PostgresCoordinator
from llm_platform.warehouse.coordination_sqlite import FileCoordinator
from llm_platform.warehouse.engine import (
    connect,
    identifier,
    load,
    platform_error,
    redacted,
    rollback,
)
from llm_platform.warehouse.session import qualified
from llm_platform.warehouse.source_urls import SourceUrl, parse_source_url
from llm_platform.warehouse.statistics import keep_texts_out

ALIAS = "upstream"


@dataclass(frozen=True)
class TableChange:
    """What one write did to the table."""

    inserted: int
    updated: int
    deleted: int
    snapshot_id: int


def write_table(url: str, table_name: str, rows: pa.Table, key: str) -> TableChange:
    """Make a source table equal to `rows`, in one transaction; equal tables make no snapshot.

    Args:
        url: `ducklake:…`, as in the settings of warehouses; the lake is made when there is none.
        table_name: Table, or `schema.table`.
        rows: All rows that the table shall have; other columns than before replace the table.
        key: Column that identifies a row.

    Raises:
        ContractBroken: the key occurs twice.
        StorageError: the lake cannot be written.
    """
    parsed = parse_source_url(ALIAS, url)
    if parsed.kind != "ducklake":
        raise SpecificationError(
            f"Cannot write to {redacted(url)!r}: only a DuckLake can be written as a sample source."
        )
    if len(rows.column(key).unique()) != rows.num_rows:
        raise ContractBroken(f"Rows for {table_name!r} repeat values of the key column {key!r}.")
    coordinator = _coordinator(parsed)
    try:
        with coordinator.write_lock(f"source/{table_name}"), closing(connect()) as connection:
            load(connection, *parsed.extensions)
            connection.execute(parsed.attach_statement(ALIAS, read_only=False))
            keep_texts_out(
                connection,
                kind=parsed.catalog,
                target=parsed.target,
                schema=parsed.ducklake_schema,
                alias=ALIAS,
            )
            connection.register("given", rows)
            return _write(connection, table_name, key)
    except duckdb.Error as error:
        raise platform_error(error, f"write the sample source {table_name!r} at {redacted(url)!r}") from None
    finally:
        coordinator.close()


def _coordinator(url: SourceUrl) -> Coordinator:
    if url.catalog == "postgres":
        return PostgresCoordinator(url.target, url.ducklake_schema)
    folders = [
        Path(url.target).parent,
        *([Path(url.data_path)] if url.data_path and "://" not in url.data_path else []),
    ]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Cannot make the folder {str(folder)!r}: {error.strerror}. Make its parent writable."
            ) from error
    return FileCoordinator(Path(url.target))


def _write(connection: duckdb.DuckDBPyConnection, table_name: str, key: str) -> TableChange:
    schema, _, name = table_name.rpartition(".")
    target = qualified(ALIAS, schema or "main", name)
    connection.begin()
    try:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(ALIAS)}.{identifier(schema or 'main')}")
        if _columns(connection, target) != _columns(connection, "given"):
            connection.execute(f"CREATE OR REPLACE TABLE {target} AS SELECT * FROM given")
            counts = (_count(connection, "SELECT count(*) FROM given"), 0, 0)
        else:
            counts = _difference(connection, target, identifier(key))
        connection.commit()
    except BaseException:
        rollback(connection)
        raise
    return TableChange(*counts, snapshot_id=_count(connection, f"SELECT id FROM {ALIAS}.current_snapshot()"))


def _difference(connection: duckdb.DuckDBPyConnection, target: str, key: str) -> tuple[int, int, int]:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS (SELECT * FROM given EXCEPT SELECT * FROM {target})")
    updated = _count(connection, f"SELECT count(*) FROM {target} WHERE {key} IN (SELECT {key} FROM fresh)")
    deleted = _count(connection, f"SELECT count(*) FROM {target} WHERE {key} NOT IN (SELECT {key} FROM given)")
    inserted = _count(connection, "SELECT count(*) FROM fresh") - updated
    if updated or deleted:
        connection.execute(
            f"DELETE FROM {target} WHERE {key} IN (SELECT {key} FROM fresh) OR {key} NOT IN (SELECT {key} FROM given)"
        )
    if inserted or updated:
        connection.execute(f"INSERT INTO {target} SELECT * FROM fresh ORDER BY {key}")
    return inserted, updated, deleted


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, str]] | None:
    try:
        return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    except duckdb.CatalogException:
        return None


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])
