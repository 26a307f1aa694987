"""Compaction: what goes, what stays, and the copy of the catalog that is made before."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import connect, identifier, literal, load
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.maintenance import require_same
from llm_platform.warehouse.object_store import make_secret
from llm_platform.warehouse.statistics import in_postgres, in_sqlite
from llm_platform_tests.warehouse.builders import NOON, RELEASE_ID, event, fill
from llm_platform_tests.warehouse.conftest import sqlite_location


def aged(location: LakeLocation) -> None:
    """Make every snapshot that there is years old."""
    statement = "UPDATE {} SET snapshot_time = '2020-01-01 00:00:00+00'"
    if location.kind == "sqlite":
        in_sqlite(Path(location.target), [statement.format("ducklake_snapshot")])
    else:
        table = f"{identifier(location.schema)}.ducklake_snapshot"
        in_postgres(location.target, [statement.format(table)], [], schema=location.schema)


def reported(lake: Warehouse, report_id: str) -> int:
    """Store a report; returns its snapshot."""
    return lake.application("reviews").reports.append(
        report_id=report_id,
        release_id=RELEASE_ID,
        variant="plain",
        evaluation_id="evaluation-1",
        measured_on=None,
        passed=True,
        report="{}",
        created_at=NOON,
    )


def test_snapshots_that_a_decision_rests_on_stay(location: LakeLocation) -> None:
    """Who asks in a year why this release serves must find the tables as they were."""
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        unnamed = reported(lake, "report-0")
        named = reported(lake, "report-1")
        fill(lake, "abc")
        promoted = lake.application("reviews").rollout.append(event("event-1"), expected_previous=None)
        fill(lake, "abcd")
        aged(location)
        fill(lake, "abcde")

        done = lake.compact(keep_days=30)

        assert done.snapshots_kept == 2
        assert lake.frame("reviews", "documents", at_snapshot=named).num_rows == 2
        assert lake.frame("reviews", "documents", at_snapshot=promoted).num_rows == 3
        assert lake.frame("reviews", "documents").num_rows == 5
        with pytest.raises(StorageError, match="expired"):
            lake.frame("reviews", "documents", at_snapshot=unnamed)


def test_the_copy_is_a_catalog_that_duckdb_reads_without_us(location: LakeLocation) -> None:
    """A copy that nobody has opened is a hope: rows and past snapshots are counted by a plain DuckDB."""
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        past = lake.snapshot()
        fill(lake, "abc")
        aged(location)
        fill(lake, "abcd")
        lake.compact(keep_days=30)
        with pytest.raises(StorageError, match="expired"):
            lake.frame("reviews", "documents", at_snapshot=past)
        copy = next((location.runs_folder or Path()).glob("catalog_copies/*"))

    assert copy.stat().st_mode & 0o077 == 0
    with closing(connect()) as plain:
        load(plain, "ducklake", "sqlite_scanner", "httpfs")
        if location.s3 is not None:
            make_secret(plain, location.s3, name="data", scope=location.data_path)
        kind = "sqlite:" if copy.suffix == ".sqlite" else ""
        plain.execute(f"ATTACH {literal(f'ducklake:{kind}{copy}')} AS copied (READ_ONLY)")
        assert plain.execute("SELECT count(rowid) FROM copied.reviews.documents").fetchall() == [(4,)]
        then = f"SELECT count(rowid) FROM copied.reviews.documents AT (VERSION => {past})"
        assert plain.execute(then).fetchall() == [(2,)]


def test_a_copy_that_is_put_back_brings_back_what_was_let_go_of(tmp_path: Path) -> None:
    """As docs/operations/backup.md says it: in the catalog's place, without what the other one's log holds."""
    location = sqlite_location(tmp_path)
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        past = lake.snapshot()
        fill(lake, "abc")
        aged(location)
        fill(lake, "abcd")
        copy = lake.compact(keep_days=30).copy
        fill(lake, "abcde")
    assert copy is not None
    for name in ("lake.sqlite-wal", "lake.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy.rename(location.target)

    with Warehouse.attach(location) as lake:
        assert lake.frame("reviews", "documents", at_snapshot=past).num_rows == 2
        assert lake.frame("reviews", "documents").num_rows == 4
        fill(lake, "abcdef")
        assert lake.frame("reviews", "documents").num_rows == 6


def test_without_room_for_a_copy_nothing_is_let_go_of(tmp_path: Path) -> None:
    """A full or read-only disk must not cost the history."""
    location = sqlite_location(tmp_path)
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        past = lake.snapshot()
        aged(location)
        fill(lake, "abc")
        (tmp_path / "catalog_copies").write_text("not a folder")

        with pytest.raises(StorageError, match=r"Cannot copy the catalog .+nothing was changed"):
            lake.compact(keep_days=30)

        assert lake.frame("reviews", "documents", at_snapshot=past).num_rows == 2


def test_the_newest_three_copies_stay_and_a_young_history_needs_none(tmp_path: Path) -> None:
    """They grow with the catalog, and files that old ones name are gone."""
    location = sqlite_location(tmp_path)
    copies = []
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        assert lake.compact(keep_days=30).copy is None
        for number in range(5):
            aged(location)
            fill(lake, [f"d{number}", "ab"])
            copies.append(lake.compact(keep_days=30).copy)

    assert sorted((tmp_path / "catalog_copies").iterdir()) == copies[2:]


def test_a_compaction_that_lost_rows_says_which_and_where_the_catalog_of_before_is() -> None:
    """Nothing is deleted then, so putting the copy back brings them back."""
    before = {("reviews", "documents"): 4, ("reviews", "scores"): 2}

    with pytest.raises(StorageError, match=r"reviews\.documents 4 → 3\. No file was deleted.+'/copies/one\.sqlite'"):
        require_same(before, {**before, ("reviews", "documents"): 3}, Path("/copies/one.sqlite"))
    require_same(before, dict(before), None)
