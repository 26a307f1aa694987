"""A lake in a temporary folder, on each kind of catalog; or, with `make test-store`, where production has it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.object_store import S3Access
from llm_platform_tests.servers.buckets import bucket_named

IN_PRODUCTION = "postgres+s3"
STORES = [IN_PRODUCTION] if os.environ.get("LLM_PLATFORM_TEST_STORE") == IN_PRODUCTION else ["sqlite", "postgres"]
LOCAL_STORE = STORES[0]


@pytest.fixture(params=STORES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LakeLocation]:
    """An empty place for a lake, on each kind of catalog; what is in a database is gone afterwards."""
    place = _location(request, request.param, tmp_path)
    yield place
    if place.kind == "postgres":
        drop_schemas(place)


@pytest.fixture(scope="session")
def bucket_of_the_store() -> Iterator[S3Access]:
    """How to reach a bucket that all lakes of this process share, each below a name of its own."""
    with bucket_named("store") as (access, _):
        yield access


@pytest.fixture
def lake(location: LakeLocation) -> Iterator[Warehouse]:
    """An empty lake, attached; on one kind of catalog DuckDB works in two threads, as where it has the cores."""
    with Warehouse.attach(location, threads=2 if location.kind == "sqlite" else 1) as warehouse:
        yield warehouse


@pytest.fixture
def local_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    """An empty lake on a SQLite catalog, where the kind of catalog makes no difference."""
    with Warehouse.attach(_location(request, LOCAL_STORE, tmp_path), threads=1) as warehouse:
        yield warehouse


def _location(request: pytest.FixtureRequest, store: str, folder: Path) -> LakeLocation:
    if store == "sqlite":
        return sqlite_location(folder)
    place = postgres_location(request.getfixturevalue("postgres_dsn"), folder)
    if store == "postgres":
        return place
    return replace(place, data_path=f"s3://store/{place.schema}", s3=request.getfixturevalue("bucket_of_the_store"))


def sqlite_location(folder: Path, name: str = "lake") -> LakeLocation:
    """A lake on a SQLite catalog."""
    return LakeLocation(f"sqlite:{folder / name}.sqlite", str(folder / f"{name}_data"))


def postgres_location(dsn: str, folder: Path, name: str = "lake") -> LakeLocation:
    """A lake on a Postgres catalog, in a metadata schema of its own."""
    schema = f"{name}_{uuid.uuid4().hex[:12]}"
    return LakeLocation(f"postgres:{dsn}", str(folder / f"{name}_data"), schema, folder=str(folder / f"{name}_runs"))


def drop_schemas(place: LakeLocation) -> None:
    """Take a lake out of its database, and those beside it whose names begin with its own.

    DuckDB reads the tables of all schemas whenever it attaches one: after 75 lakes that took Postgres twice as long.
    """
    with closing(psycopg2.connect(place.target)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [place.schema])
        for (schema,) in cursor.fetchall():
            cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
