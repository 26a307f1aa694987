"""An existing lake made an encrypted one: its rows are written anew, each file with a key of its own.

DuckLake reads no plain file in an encrypted lake, so there is no way in steps. A second catalog is made beside the
first, over the same data, and takes its place once it is whole: by a rename of its file, or in one transaction of
Postgres. Whatever is killed before leaves the lake as it was, and what is left of the plain files goes with the next
call. Numbers of snapshots go on, so that what refers to an old
one finds that it has expired, and not another one.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb

from llm_platform.errors import StorageError, TransientError
from llm_platform.files import BRANCH_NOTE
from llm_platform.warehouse.encrypting_postgres import exchange, has_lake, run, sessions
from llm_platform.warehouse.engine import connect, identifier, literal, load, platform_error
from llm_platform.warehouse.lake import ROW_GROUP_ROWS, LakeLocation, Warehouse, attach_statement
from llm_platform.warehouse.object_store import S3Access, make_secret
from llm_platform.warehouse.session import metadata_table, qualified
from llm_platform.warehouse.spilling import SpillFolder, openers
from llm_platform.warehouse.statistics import in_sqlite, keep_texts_out

OLD, NEW = "plain_lake", "encrypted_lake"
ASIDE = "encrypting"
BESIDE = ("-wal", "-shm")


def encrypt_lake(location: LakeLocation) -> int:
    """Encrypt the files of a lake's tables, with their keys in its catalog; returns how many rows were written anew.

    A lake that is encrypted already is only cleaned of what a call that was killed has left.

    Raises:
        StorageError: there is no lake, or it cannot be read or written.
        TransientError: another process has it open.
    """
    there = Path(location.target).is_file() if location.kind == "sqlite" else has_lake(location.target, location.schema)
    if not there:
        raise StorageError(f"There is no lake at {location.address} yet; a new one is encrypted from its first row.")
    if users := _users(location):
        raise TransientError(
            f"Cannot encrypt the lake at {location.address}: {' and '.join(users)} has it, or a branch of it, open. "
            "Stop what runs there, Dagster included, then run this again."
        )
    as_it_is = replace(location, encrypted=False)
    rows = 0 if _is_encrypted(as_it_is) else _rewritten(as_it_is)
    if location.kind == "postgres":
        _remove(_beside(location))
    with Warehouse.attach(replace(location, encrypted=True)) as lake:
        lake.erase()
    return rows


def _users(location: LakeLocation) -> list[str]:
    """Who else has the lake open, or one of the branches beside it, which read it."""
    if location.kind == "postgres":
        return sessions(location.target, location.schema)
    folder = location.own_folder or Path(location.target).parent
    branches = [one.parent for one in folder.parent.glob(f"*/{BRANCH_NOTE}") if one.parent != folder]
    return list(dict.fromkeys(user for one in (folder, *branches) for user in openers(one)))


def _is_encrypted(location: LakeLocation) -> bool:
    with closing(_connected(location)) as connection:
        connection.execute(attach_statement(location, alias=OLD, read_only=True))
        metadata = metadata_table("ducklake_metadata", catalog=OLD, schema=location.schema)
        found = connection.execute(f"SELECT value FROM {metadata} WHERE key = 'encrypted'").fetchall()
    return found == [("true",)]


def _beside(location: LakeLocation) -> LakeLocation:
    """Where the second catalog is made."""
    if location.kind == "postgres":
        return replace(location, metadata_schema=f"{location.schema}_{ASIDE}", encrypted=True)
    return replace(location, catalog=f"sqlite:{location.target}.{ASIDE}", encrypted=True)


def _rewritten(location: LakeLocation) -> int:
    new = _beside(location)
    _remove(new)
    spill = SpillFolder(location.own_folder)
    try:
        with closing(_connected(location, spill=spill.path)) as connection:
            connection.execute(attach_statement(location, alias=OLD, read_only=True))
            newest, version = _newest(connection, location)
            _begin(connection, new, newest=newest, schema_version=version + 1)
            rows = _copied(connection)
    except duckdb.Error as error:
        raise platform_error(error, f"encrypt the lake at {location.address}") from None
    finally:
        spill.remove()
    if location.kind == "postgres":
        exchange(location.target, location.schema, new.schema, newest=newest)
    else:
        _take_the_place(Path(new.target), Path(location.target))
    return rows


def _remove(new: LakeLocation) -> None:
    if new.kind == "postgres":
        run(new.target, new.schema, [f"DROP SCHEMA IF EXISTS {identifier(new.schema)} CASCADE"])
        return
    aside = Path(new.target)
    for left in (aside, *(aside.with_name(aside.name + end) for end in BESIDE)):
        left.unlink(missing_ok=True)


def _take_the_place(aside: Path, catalog: Path) -> None:
    # What is in the log goes into the file: a log that is left behind would be taken for the new file's.
    for file in (aside, catalog):
        in_sqlite(file, ["PRAGMA wal_checkpoint(TRUNCATE)"])
        for end in BESIDE:
            file.with_name(file.name + end).unlink(missing_ok=True)
    os.replace(aside, catalog)


def _connected(location: LakeLocation, *, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    connection = connect(None, spill=spill)
    load(connection, "ducklake", f"{location.kind}_scanner", "httpfs")
    if location.is_remote:
        make_secret(connection, location.s3 or S3Access(), name="data_of_lake", scope=location.data_path)
    return connection


def _newest(connection: duckdb.DuckDBPyConnection, location: LakeLocation) -> tuple[int, int]:
    """(number of the newest snapshot, the newest version of the tables' columns)."""
    snapshots = metadata_table("ducklake_snapshot", catalog=OLD, schema=location.schema)
    found = connection.execute(f"SELECT max(snapshot_id), max(schema_version) FROM {snapshots}").fetchall()[0]
    return int(found[0]), int(found[1])


def _begin(connection: duckdb.DuckDBPyConnection, new: LakeLocation, *, newest: int, schema_version: int) -> None:
    """An empty lake whose first snapshot has a number that the other one's last had, and a version that none had."""
    connection.execute(attach_statement(new, alias=NEW, read_only=False))
    connection.execute(f"DETACH {NEW}")
    numbered = [
        f"UPDATE ducklake_snapshot SET snapshot_id = {newest:d}, schema_version = {schema_version:d}",
        f"UPDATE ducklake_snapshot_changes SET snapshot_id = {newest:d}",
    ]
    if new.kind == "postgres":
        run(new.target, new.schema, numbered)
    else:
        in_sqlite(Path(new.target), numbered)
    connection.execute(attach_statement(new, alias=NEW, read_only=False))
    connection.execute(f"CALL {NEW}.set_option('parquet_row_group_size', {ROW_GROUP_ROWS})")
    keep_texts_out(connection, kind=new.kind, target=new.target, schema=new.schema, alias=NEW)


def _copied(connection: duckdb.DuckDBPyConnection) -> int:
    tables = connection.execute(
        f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = {literal(OLD)} ORDER BY 1, 2"
    ).fetchall()
    rows = 0
    connection.begin()
    for schema in dict.fromkeys(schema for schema, _ in tables):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(NEW)}.{identifier(schema)}")
    for schema, table in tables:
        old, new = (qualified(catalog, schema, table) for catalog in (OLD, NEW))
        connection.execute(f"CREATE TABLE {new} AS SELECT * FROM {old}")
        counts = [connection.execute(f"SELECT count(*) FROM {one}").fetchall()[0][0] for one in (old, new)]
        if counts[0] != counts[1]:
            raise StorageError(
                f"{schema}.{table} has {counts[0]} rows, and {counts[1]} were written. Nothing was changed."
            )
        rows += counts[0]
    connection.commit()
    return rows
