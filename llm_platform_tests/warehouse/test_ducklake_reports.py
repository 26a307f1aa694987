"""Faults that others have reported of DuckLake, tried on the version that is pinned here.

Each test says how it stands: held, so that an update that brings the fault back is seen; or still there, with what the
platform does about it, so that an update that mends it is seen, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest

from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import fill

LAKE = "lake"
OLD = "older_than => now() + INTERVAL 1 DAY"
"""Everything is, but for the newest."""


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckLake as anybody would make one, with nothing of the platform's."""
    with closing(connect(2)) as connection:
        load(connection, "ducklake", "sqlite_scanner")
        connection.execute(
            f"ATTACH 'ducklake:sqlite:{tmp_path / 'plain.sqlite'}' AS {LAKE} "
            f"(DATA_PATH '{tmp_path / 'files'}/', DATA_INLINING_ROW_LIMIT 0)"
        )
        connection.execute(f"USE {LAKE}")
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Rows that the files of a table hold."""
    return int(connection.execute(f"SELECT count(rowid) FROM {table}").fetchall()[0][0])


def test_a_renamed_table_keeps_its_rows_and_columns_when_snapshots_expire(plain: duckdb.DuckDBPyConnection) -> None:
    """duckdb/ducklake 527, 529 and 530: rows, tables and columns were lost. Held."""
    plain.execute("CREATE TABLE before (i INTEGER)")
    plain.execute("INSERT INTO before VALUES (1)")
    plain.execute("ALTER TABLE before RENAME TO after")
    plain.execute("INSERT INTO after VALUES (2)")

    plain.execute(f"CALL ducklake_expire_snapshots('{LAKE}', {OLD})")
    plain.execute(f"CALL ducklake_cleanup_old_files('{LAKE}', cleanup_all => true)")

    assert rows(plain, "after") == 2
    plain.execute("INSERT INTO after VALUES (3)")
    assert rows(plain, "after") == 3


def test_files_of_expired_snapshots_that_are_read_still_are_no_orphans(plain: duckdb.DuckDBPyConnection) -> None:
    """duckdb/ducklake 815: with a data path that ends in a slash, living files were deleted as orphans. Held."""
    plain.execute("CREATE TABLE t (i INTEGER)")
    plain.execute("INSERT INTO t SELECT * FROM range(10)")
    plain.execute("INSERT INTO t SELECT * FROM range(10)")
    plain.execute(f"CALL ducklake_expire_snapshots('{LAKE}', {OLD})")

    gone = plain.execute(f"CALL ducklake_delete_orphaned_files('{LAKE}', cleanup_all => true)").fetchall()

    assert gone == []
    assert rows(plain, "t") == 20


def test_a_dropped_table_does_not_stop_compaction(plain: duckdb.DuckDBPyConnection) -> None:
    """duckdb/ducklake 956: its files had no end, and compaction failed over them. Held."""
    plain.execute("CREATE TABLE dropped (i INTEGER)")
    for number in range(3):
        plain.execute(f"INSERT INTO dropped VALUES ({number})")
    plain.execute("DROP TABLE dropped")

    assert plain.execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')").fetchall() == []


@pytest.mark.slow
def test_thousands_of_files_become_few(plain: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """duckdb/ducklake 525, 1025: "expected a single output file", an internal error over thousands of files. Held for
    3,000 small ones of which some have removed rows.
    """
    plain.execute("CREATE TABLE t (i BIGINT, text VARCHAR)")
    given = tmp_path / "given"
    given.mkdir()
    with closing(connect(2)) as other:
        for number in range(3_000):
            other.execute(
                f"COPY (SELECT {number} * 10 + i AS i, repeat('x', 100) AS text FROM range(10) t(i)) "
                f"TO '{given / f'{number:04d}.parquet'}'"
            )
    plain.execute(f"CALL ducklake_add_data_files('{LAKE}', 't', '{given}/*.parquet')")
    plain.execute("DELETE FROM t WHERE i % 10 < 9 AND i < 5000")

    plain.execute(f"CALL ducklake_rewrite_data_files('{LAKE}', delete_threshold => 0.5)")
    plain.execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')")

    assert rows(plain, "t") == 30_000 - 4_500
    assert plain.execute(f"SELECT sum(file_count) < 10 FROM {LAKE}.table_info()").fetchall() == [(True,)]


def test_two_compactions_of_one_table_at_once_conflict_and_ours_wait(
    postgres_dsn: str, local_lake: Warehouse, tmp_path: Path
) -> None:
    """duckdb/ducklake 1452: two of one table conflict whatever files they take. Still so; ours are one at a time."""
    with closing(connect(2)) as one:
        load(one, "ducklake", "postgres_scanner")
        one.execute(
            f"ATTACH 'ducklake:postgres:{postgres_dsn}' AS {LAKE} "
            f"(DATA_PATH '{tmp_path / 'both'}', DATA_INLINING_ROW_LIMIT 0, METADATA_SCHEMA 'lake_1452')"
        )
        one.execute(f"CREATE TABLE {LAKE}.t (i INTEGER)")
        for number in range(3):
            one.execute(f"INSERT INTO {LAKE}.t VALUES ({number})")
        two = one.cursor()
        for cursor in (one, two):
            cursor.begin()
            cursor.execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')")
        one.commit()
        with pytest.raises(duckdb.TransactionException, match="compacted it"):
            two.commit()

    for number in range(4):
        fill(local_lake, [f"d{one}" for one in range(number + 1)])
    failed: list[BaseException] = []

    def compacted() -> None:
        try:
            local_lake.compact(keep_days=30)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=compacted) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert local_lake.frame("reviews", "documents").num_rows == 4


def test_a_merge_leaves_the_catalog_idle_in_its_transaction(postgres_dsn: str, tmp_path: Path) -> None:
    """duckdb/ducklake 1462: Postgres ends such a transaction where `idle_in_transaction_session_timeout` is set. Still
    so; ours writes one file a transaction, so that it is short, and a role that compacts has no such timeout.
    """
    dsn = f"{postgres_dsn} application_name=lake_1462"
    location = LakeLocation(f"postgres:{dsn}", str(tmp_path / "data"), "lake_1462", folder=str(tmp_path))
    with Warehouse.attach(location, threads=2) as lake:
        for number in range(4):
            fill(lake, [f"d{one}" for one in range(number + 1)])
        with lake._session.cursor() as cursor, closing(psycopg2.connect(postgres_dsn)) as watching:
            before = idle(watching, "lake_1462")
            cursor.begin()
            cursor.execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')")
            meanwhile = idle(watching, "lake_1462")
            cursor.commit()

    assert (before, meanwhile) == (0, 1)


def idle(watching: Any, name: str) -> int:
    """Connections of that name that Postgres says are idle in a transaction; those of others come and go."""
    with watching, watching.cursor() as looks:
        looks.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = %s",
            [name],
        )
        return int(looks.fetchone()[0])
