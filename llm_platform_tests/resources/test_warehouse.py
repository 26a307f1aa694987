"""One lake for the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import duckdb
import pytest
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from llm_platform.resources.execution import OneLake
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


def test_steps_of_one_run_share_a_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts the run, also a sensor: its executor holds the lake."""
    resource, lakes = _resource(tmp_path), []

    def steps(*_: Any) -> Iterator[str]:
        for step in ("first", "second"):
            with resource.open() as lake:
                lakes.append(lake)
            yield step

    monkeypatch.setattr(InProcessExecutor, "execute", steps)
    events = OneLake(retries=RetryMode.ENABLED).execute(*[cast("Any", None)] * 2)

    assert list(events) == ["first", "second"]
    assert lakes[0] is lakes[1]
    with pytest.raises(duckdb.Error):
        lakes[0]._connection.execute("SELECT 1")


def test_a_sensor_takes_the_resource_as_it_is(tmp_path: Path) -> None:
    """A resource that is taken back at the end needs a scope of its own, which who asks for a look does not have."""
    context = dg.build_sensor_context(resources={"warehouse": _resource(tmp_path)})

    with context.resources.warehouse.open() as lake:
        assert lake.snapshot() == 0


def _resource(folder: Path) -> WarehouseResource:
    return WarehouseResource(catalog=f"sqlite:{folder / 'lake.sqlite'}", data_path=str(folder / "data"))
