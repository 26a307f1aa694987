"""Attaching a lake, and what it does when the ground is bad."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.warehouse.lake import ROW_GROUP_ROWS, LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, batch, consumed, document, fill
from llm_platform_tests.warehouse.conftest import sqlite_location


def test_a_lake_that_is_not_there_is_recognised_without_writing(location: LakeLocation, tmp_path: Path) -> None:
    """A plan of a fresh state must not make one."""
    with pytest.raises(StorageError, match="no lake at"):
        Warehouse.attach(location, read_only=True)

    assert list(tmp_path.iterdir()) == []


def test_read_only_reads_and_refuses_to_write(location: LakeLocation) -> None:
    """A page that only looks must not be able to change anything."""
    with Warehouse.attach(location) as writer:
        fill(writer, "ab")

    with Warehouse.attach(location, read_only=True) as reader:
        assert reader.application("reviews").documents.counts() == {"sendable": 2}
        with pytest.raises(PlatformError, match="read-only"):
            fill(reader, "abc")


def test_two_attachments_in_one_process_see_each_other(location: LakeLocation) -> None:
    """A sensor and a run share a process in development."""
    with Warehouse.attach(location) as one, Warehouse.attach(location) as two:
        fill(one, "ab")

        assert two.application("reviews").documents.counts() == {"sendable": 2}


@pytest.mark.parametrize("catalog", ["mysql:host=db", "lake.sqlite", "sqlite:", ""])
def test_an_unknown_catalog_is_refused_with_the_known_forms(catalog: str, tmp_path: Path) -> None:
    """A mistyped setting must not become a file somewhere."""
    with pytest.raises(StorageError, match="expected 'sqlite:<file>' or 'postgres:<connection string>'"):
        Warehouse.attach(LakeLocation(catalog, str(tmp_path)))


def test_a_damaged_catalog_is_named(tmp_path: Path) -> None:
    """The message must say which file, and that it is not a question of trying again."""
    (tmp_path / "lake.sqlite").write_text("this is not a database" * 100)

    with pytest.raises(StorageError, match=r"lake.sqlite.+damaged or not ours"):
        Warehouse.attach(sqlite_location(tmp_path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A state folder below a file is the simplest wrong path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="Cannot make the folder"):
        Warehouse.attach(sqlite_location(tmp_path / "file"))


def test_an_unreachable_postgres_is_transient_and_its_password_stays_hidden(tmp_path: Path) -> None:
    """A database that restarts comes back; a log is no place for its password."""
    catalog = "postgres:host=127.0.0.1 port=1 dbname=lake user=u password=s3cret"

    with pytest.raises(TransientError) as caught:
        Warehouse.attach(LakeLocation(catalog, str(tmp_path), "lake"))

    assert "does not answer" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_moved_state_folder_still_opens(tmp_path: Path) -> None:
    """Somebody renames their checkout; the answers that were paid for must not be lost with it."""
    (tmp_path / "old").mkdir()
    with Warehouse.attach(sqlite_location(tmp_path / "old")) as lake:
        fill(lake, "ab")
    shutil.move(tmp_path / "old", tmp_path / "new")

    for read_only in (True, False):
        with Warehouse.attach(sqlite_location(tmp_path / "new"), read_only=read_only) as lake:
            assert lake.application("reviews").documents.table().num_rows == 2


def test_another_data_folder_than_the_catalogs_is_refused(tmp_path: Path) -> None:
    """Rows in two places would be lost when one of them is."""
    here = sqlite_location(tmp_path)
    with Warehouse.attach(here) as lake:
        fill(lake, "ab")

    with pytest.raises(StorageError, match="DATA_PATH"):
        Warehouse.attach(LakeLocation(here.catalog, str(tmp_path / "elsewhere")))


def test_an_encrypted_lake_has_no_readable_text_in_its_files(tmp_path: Path) -> None:
    """The object store is not trusted with documents; the keys are in the catalog."""
    here = sqlite_location(tmp_path)
    with Warehouse.attach(LakeLocation(here.catalog, here.data_path, encrypted=True)) as lake:
        fill(lake, ["secret"])

    files = list(Path(here.data_path).rglob("*.parquet"))
    assert files
    assert not any(b"text of secret" in path.read_bytes() for path in files)
    with Warehouse.attach(LakeLocation(here.catalog, here.data_path, encrypted=True)) as lake:
        assert lake.application("reviews").documents.table(["document_id"]).column(0).to_pylist() == ["secret"]


def test_compaction_keeps_rows_and_makes_fewer_files(lake: Warehouse) -> None:
    """Micro-batches leave many small files; merging them must not change what anybody reads."""
    store = lake.application("reviews")
    for number in range(6):
        rows = batch([document(f"d{number}")])
        store.documents.apply(rows, deleted=[], full=False, consumed=consumed(number + 1))
        answer_all(lake)
    store.documents.apply([], deleted=["d0"], full=False, consumed=consumed(9))
    before = store.documents.data_version(), store.completions.data_version(RELEASE_ID)

    kept = lake.compact(keep_days=1)
    expired = lake.compact(keep_days=0)

    assert (store.documents.data_version(), store.completions.data_version(RELEASE_ID)) == before
    assert kept.snapshots_expired == 0
    assert kept.files_after < kept.files_before
    assert expired.snapshots_expired > 10
    assert expired.files_deleted > 0
    with pytest.raises(StorageError, match=r"Snapshot 2 .+expired"):
        lake.frame("reviews", "documents", at_snapshot=2)


def test_a_lake_in_a_folder_that_may_not_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite opens no log of writes there; a wrong mount or owner must not hide what is stored."""
    location = sqlite_location(tmp_path)
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, "ab")
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "access", lambda *_, **__: False)

    with Warehouse.attach(location, threads=1, read_only=True) as lake:
        rows = lake.frame("reviews", "documents").num_rows
        beside = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".spill-")}

    # Not even the files that SQLite keeps beside a catalog were made.
    assert (rows, beside) == (2, before)


def test_texts_are_written_in_groups_that_a_run_can_read_one_by_one(location: LakeLocation) -> None:
    """With DuckDB's own 122,880 rows a group, reading the next few thousand texts unpacked all of them."""
    with Warehouse.attach(location) as lake:
        fill(lake, [f"{number:06d}" for number in range(3 * ROW_GROUP_ROWS)])

    if location.is_remote:
        pytest.skip("it opens files on this disk")
    files = sorted(Path(location.data_path).rglob("documents/*.parquet"))

    groups = [pq.ParquetFile(file).metadata for file in files]
    assert sum(group.num_rows for group in groups) == 3 * ROW_GROUP_ROWS
    assert all(group.row_group(i).num_rows <= ROW_GROUP_ROWS for group in groups for i in range(group.num_row_groups))


def test_a_snapshot_that_never_was_is_refused(local_lake: Warehouse) -> None:
    """Time travel to a wrong id must not silently show the present."""
    fill(local_lake, "ab")

    with pytest.raises(StorageError, match="Snapshot 99 "):
        local_lake.frame("reviews", "documents", at_snapshot=99)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own on `folder`."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs more rights than this user has")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` closed to writing, for root as well."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    with mounted(folder, "size=8m"):
        with Warehouse.attach(sqlite_location(folder)) as lake:
            fill(lake, "ab")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield


def test_a_read_only_folder_is_a_storage_error(tmp_path: Path) -> None:
    """The commonest mistake of a first deployment; its message must name the folder."""
    with Warehouse.attach(sqlite_location(tmp_path)) as lake:
        fill(lake, "ab")

    with (
        read_only(tmp_path),
        pytest.raises(StorageError, match=re.escape(str(tmp_path))),
        Warehouse.attach(sqlite_location(tmp_path)) as lake,
    ):
        fill(lake, "abc")


def test_a_full_disk_is_a_storage_error_and_harms_nothing(tmp_path: Path) -> None:
    """What was committed before the disk filled up must be there after space is made."""
    with mounted(tmp_path, "size=2m"):
        with Warehouse.attach(sqlite_location(tmp_path)) as lake:
            fill(lake, "ab")
        filler = tmp_path / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            file.writelines(b"0" * 1024 for _ in range(4096))

        with (
            pytest.raises(StorageError, match="disk is full") as caught,
            Warehouse.attach(sqlite_location(tmp_path)) as lake,
        ):
            fill(lake, [f"document {number}" for number in range(5000)])
        assert "text of" not in f"{caught.value} {caught.value.__cause__}"

        filler.unlink()
        with Warehouse.attach(sqlite_location(tmp_path)) as lake:
            assert lake.application("reviews").documents.counts() == {"sendable": 2}
            fill(lake, "abc")


def test_a_disk_that_fills_up_during_a_write_is_a_storage_error(tmp_path: Path) -> None:
    """The files do not fit, while the catalog still does."""
    with mounted(tmp_path, "size=2m"), Warehouse.attach(sqlite_location(tmp_path)) as lake:
        fill(lake, "ab")
        large = [{**document(key), "text": os.urandom(600_000).hex()} for key in "cdefg"]

        with pytest.raises(StorageError, match="disk is full"):
            lake.application("reviews").documents.apply(batch(large), deleted=None, full=True, consumed=consumed(2))

        assert lake.application("reviews").documents.counts() == {"sendable": 2}
