"""A lake that is taken away leaves nothing, and takes nothing else with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_platform.warehouse.encrypting_postgres import has_lake
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.removal import remove_lake
from llm_platform_tests.warehouse.builders import fill


def files(location: LakeLocation) -> int:
    """How many files a lake has, wherever it keeps them."""
    if location.s3 is None:
        return sum(path.is_file() for path in Path(location.data_path).rglob("*"))
    from pyarrow.fs import FileSelector

    below = FileSelector(location.data_path.removeprefix("s3://"), recursive=True, allow_not_found=True)
    return sum(one.is_file for one in location.s3.file_system().get_file_info(below))


def beside(location: LakeLocation) -> LakeLocation:
    """Another lake, whose name begins like the first one's."""
    if location.kind == "sqlite":
        return replace(location, catalog=f"{location.catalog}_2", data_path=f"{location.data_path}_2")
    return replace(location, metadata_schema=f"{location.schema}_2", data_path=f"{location.data_path}_2")


def test_a_lake_is_taken_away_whole_and_the_one_beside_it_stays(location: LakeLocation) -> None:
    """What stays of a branch is documents that nobody knows of, and a place that the next one of that name finds."""
    for place in (location, other := beside(location)):
        with Warehouse.attach(place, threads=1) as lake:
            fill(lake, [f"key-{number}" for number in range(20)])
    kept = files(other)

    remove_lake(location)
    remove_lake(location)

    assert files(location) == 0
    assert files(other) == kept > 0
    if location.kind == "postgres":
        assert [has_lake(one.target, one.schema) for one in (location, other)] == [False, True]
