"""One lake for the steps of a run."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from llm_platform.resources.warehouse import WarehouseResource, kept_open
from llm_platform.warehouse.lake import Warehouse


def test_a_lake_that_is_kept_is_attached_once_and_closed_at_the_end(tmp_path: Path) -> None:
    """Each attach, and each first look at a catalog, costs a step what its own work costs."""
    resource = _resource(tmp_path)
    with kept_open():
        with resource.open() as first:
            pass
        with resource.open() as second, kept_open(), resource.open(read_only=True) as third:
            found = third.snapshot()

    assert first is second is third
    assert found == 0
    with pytest.raises(duckdb.Error):
        first._connection.execute("SELECT 1")
    with resource.open() as later:
        assert later is not first


def test_a_lake_that_something_went_wrong_with_is_opened_anew(tmp_path: Path) -> None:
    """A catalog that went away and came back would fail every later step of the run through its old connections."""
    resource = _resource(tmp_path)
    lakes: list[Warehouse] = []

    def fail() -> None:
        with resource.open() as lake:
            lakes.append(lake)
            raise ValueError("gone")

    with kept_open():
        with pytest.raises(ValueError, match="gone"):
            fail()
        with resource.open() as lake:
            lakes.append(lake)

    assert lakes[0] is not lakes[1]


def test_who_reads_first_keeps_nobody_from_writing(tmp_path: Path) -> None:
    """A lake that was opened to be read cannot be written."""
    resource = _resource(tmp_path)
    with resource.open():
        pass
    with kept_open():
        with resource.open(read_only=True) as reading:
            pass
        with resource.open() as writing, resource.open(read_only=True) as again:
            writing.application("letters").tallies.clear()

    assert reading is not writing
    assert again is writing


def test_steps_of_one_process_share_a_lake(tmp_path: Path) -> None:
    """Dagster's own hook holds it for them, wherever a run is started from."""
    lakes: list[Warehouse] = []

    def step(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name)
        def asset(warehouse: WarehouseResource) -> None:
            with warehouse.open() as lake:
                lakes.append(lake)

        return asset

    dg.materialize([step("first"), step("second")], resources={"warehouse": _resource(tmp_path)})

    assert lakes[0] is lakes[1]
    with pytest.raises(duckdb.Error):
        lakes[0]._connection.execute("SELECT 1")


def _resource(folder: Path) -> WarehouseResource:
    return WarehouseResource(catalog=f"sqlite:{folder / 'lake.sqlite'}", data_path=str(folder / "data"))
