"""A backup is what was restored: catalog and files of one time, counted by a reader that is not ours."""

from __future__ import annotations

import shutil
import uuid
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill


def administrate(dsn: str, *statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def independent_count(location: LakeLocation) -> int:
    """Rows that readers get, by a DuckDB that knows only where the lake is."""
    with closing(connect()) as reader:
        load(reader, "ducklake", "postgres_scanner")
        reader.execute(
            f"ATTACH 'ducklake:postgres:{location.target}' AS lake "
            f"(DATA_PATH '{location.data_path}', METADATA_SCHEMA '{location.schema}', READ_ONLY)"
        )
        return int(reader.execute("SELECT count(*) FROM lake.reviews.published_v1").fetchall()[0][0])


@pytest.mark.slow
def test_a_lake_that_was_lost_is_restored_with_every_row_and_goes_on(postgres_dsn: str, tmp_path: Path) -> None:
    """Whoever tries it for the first time in a disaster finds out what the backup lacks."""
    suffix = uuid.uuid4().hex[:8]
    database, backup, schema = f"lake_{suffix}", f"backup_{suffix}", "production"
    administrate(postgres_dsn, f"CREATE DATABASE {database}")
    dsn = postgres_dsn.replace("dbname=postgres", f"dbname={database}")
    data, kept = tmp_path / "data", tmp_path / "backup"
    location = LakeLocation(f"postgres:{dsn}", str(data), schema)
    with Warehouse.attach(location) as lake:
        fill(lake, "abcdefgh")
        answer_all(lake)
        lake.application("reviews").published.publish(RELEASE_ID, 1)
    # The server's own copy of a database, in the place of pg_dump, which is not of the server's version everywhere.
    administrate(postgres_dsn, f"CREATE DATABASE {backup} TEMPLATE {database}")
    shutil.copytree(data, kept)

    # What is written after the backup is lost, and what the backup has is not.
    with Warehouse.attach(location) as lake:
        fill(lake, "abcdefghi")
    administrate(dsn, f"DROP SCHEMA {schema}, {schema}_leases CASCADE")
    with pytest.raises(StorageError, match="has no catalog, but something is left of it"), Warehouse.attach(location):
        pass
    shutil.rmtree(data)

    administrate(
        postgres_dsn, f"DROP DATABASE {database} WITH (FORCE)", f"CREATE DATABASE {database} TEMPLATE {backup}"
    )
    shutil.copytree(kept, data)

    assert independent_count(location) == 8
    with Warehouse.attach(location) as lake:
        store = lake.application("reviews")
        assert store.completions.missing_count(RELEASE_ID) == 0
        fill(lake, "abcdefghi")
        assert store.completions.missing_count(RELEASE_ID) == 1
