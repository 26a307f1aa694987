"""The sensor on a source that is a folder: what comes, what leaves, what is half written."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import dagster as dg
import pytest

from llm_platform_tests.defs.test_sensor import Follower
from llm_platform_tests.team import NAME, Team


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exports"


@pytest.fixture
def following(tmp_path: Path, folder: Path) -> Follower:
    team = Team(tmp_path, "http://127.0.0.1:9", documents=40)
    write(folder, "1.csv", range(40))
    team.specification["source"]["url"] = "../../exports"
    team.write_specification()
    return Follower(team, dg.DagsterInstance.ephemeral())


def write(folder: Path, name: str, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "body", "team"])
        writer.writerows([str(number), Team.text(number), "red"] for number in numbers)


def keys(following: Follower) -> int:
    with following.team.warehouse.open(read_only=True) as lake:
        return sum(lake.application(NAME).documents.counts().values())


def read(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.asset_materializations_for_node(f"{NAME}__documents")
    return str(event.metadata["read"].value)


def test_files_that_come_and_leave_are_followed_and_an_empty_folder_is_not(following: Follower, folder: Path) -> None:
    """An export a day is one run a day; a folder that is not mounted, or half written, leaves everything as it is."""
    following.follow()
    assert (keys(following), following.asked()) == (40, [])

    write(folder, "2.csv", range(40, 60))
    came = following.follow()
    assert (keys(following), read(came)) == (60, "changes only: 1 files new")

    (folder / "3.csv").touch()
    assert "1 of its 3 files have no content" in following.why_not()
    (folder / "3.csv").unlink()
    shutil.move(folder, folder.parent / "away")
    assert "No such file" in following.why_not()
    folder.mkdir()
    assert "a place without files is not an empty table" in following.why_not()
    assert keys(following) == 60

    folder.rmdir()
    shutil.move(folder.parent / "away", folder)
    assert following.asked() == []
    (folder / "1.csv").unlink()
    assert "40 fewer" in following.why_not()
    (folder / "2.csv").unlink()
    write(folder, "1.csv", range(50))
    left = following.follow()
    assert keys(following) == 50
    assert "1 files new" not in read(left)
