"""A lake in a temporary folder, on each kind of catalog."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.warehouse.lake import LakeLocation, Warehouse


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> LakeLocation:
    """An empty place for a lake, on each kind of catalog."""
    if request.param == "sqlite":
        return sqlite_location(tmp_path)
    return postgres_location(request.getfixturevalue("postgres_dsn"), tmp_path)


@pytest.fixture
def lake(location: LakeLocation) -> Iterator[Warehouse]:
    """An empty lake, attached; DuckDB works on it in two threads, as where it has the cores."""
    with Warehouse.attach(location, threads=2) as warehouse:
        yield warehouse


@pytest.fixture
def local_lake(tmp_path: Path) -> Iterator[Warehouse]:
    """An empty lake on a SQLite catalog, where the kind of catalog makes no difference."""
    with Warehouse.attach(sqlite_location(tmp_path), threads=1) as warehouse:
        yield warehouse


def sqlite_location(folder: Path, name: str = "lake") -> LakeLocation:
    """A lake on a SQLite catalog."""
    return LakeLocation(f"sqlite:{folder / name}.sqlite", str(folder / f"{name}_data"))


def postgres_location(dsn: str, folder: Path, name: str = "lake") -> LakeLocation:
    """A lake on a Postgres catalog, in a metadata schema of its own."""
    schema = f"{name}_{uuid.uuid4().hex[:12]}"
    return LakeLocation(f"postgres:{dsn}", str(folder / f"{name}_data"), schema, folder=str(folder / f"{name}_runs"))
