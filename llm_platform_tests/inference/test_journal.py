"""Answers that are safe before they are committed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from llm_platform.errors import StorageError, UnstorableRow
from llm_platform.inference.journal import SET_ASIDE, Journal, recover
from llm_platform.records import Completion, CompletionStatus, from_json_lines, json_lines

ROOT = Path(__file__).parents[2]
CRASH = """
import os, signal, sys
from pathlib import Path
from llm_platform.inference.journal import Journal
from llm_platform_tests.inference.test_journal import lines
journal = Journal(Path(sys.argv[1]), lambda segment: None, commit_rows=3)
journal(lines(0, 3))
journal(lines(3, 5))
if sys.argv[2] == "live":
    print("ready", flush=True)
    sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def rows(start: int, stop: int) -> list[Completion]:
    return [
        Completion(
            release_id="r",
            request_id="q",
            fingerprint=f"f{number}",
            document_id=str(number),
            status=CompletionStatus.VALID,
            answer="über\n",
            label_logprobs={"A": -0.5},
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for number in range(start, stop)
    ]


def lines(start: int, stop: int) -> list[bytes]:
    return json_lines(rows(start, stop))


def ids(found: list[Completion]) -> list[int]:
    return [int(row.document_id) for row in found]


def ids_in(segment: Path) -> list[int]:
    return ids(from_json_lines(Completion, segment.read_bytes().splitlines()))


def crash(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, str(folder), "die"], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_rows_are_committed_in_large_batches_and_in_order(tmp_path: Path) -> None:
    """A commit costs the same for one row as for thousands."""
    committed: list[list[int]] = []

    with Journal(tmp_path, lambda segment: committed.append(ids_in(segment)), commit_rows=5) as journal:
        for number in range(12):
            journal(lines(number, number + 1))

    assert committed == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert list(tmp_path.iterdir()) == []


def test_few_rows_are_committed_after_a_while(tmp_path: Path) -> None:
    """A slow model must not keep its answers out of the lake for hours."""
    now = [0.0]
    committed: list[int] = []

    with Journal(
        tmp_path, lambda segment: committed.extend(ids_in(segment)), commit_seconds=5, clock=lambda: now[0]
    ) as journal:
        journal(lines(0, 1))
        early = list(committed)
        now[0] = 5.0
        journal(lines(1, 2))

        assert (early, committed) == ([], [0, 1])


def test_killed_process_leaves_what_it_had_not_committed(tmp_path: Path) -> None:
    """Those answers were paid for; asking again would pay twice."""
    crash(tmp_path)

    with recover(tmp_path, Completion) as found:
        left = found

    assert ids(left) == [3, 4]
    assert left == rows(3, 5)
    assert list(tmp_path.iterdir()) == []


def test_failed_recovery_can_be_tried_again(tmp_path: Path) -> None:
    """The lake may be locked at that moment."""
    crash(tmp_path)

    with pytest.raises(StorageError), recover(tmp_path, Completion):
        raise StorageError("locked")
    with recover(tmp_path, Completion) as found:
        assert ids(found) == [3, 4]


def test_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Two runs work on one application at a time; one must not take the other's answers away."""
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(tmp_path), "live"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with recover(tmp_path, Completion) as found:
            assert found == []
    with recover(tmp_path, Completion) as found:
        assert ids(found) == [3, 4]


def test_journal_that_has_just_begun_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a segment's making and its lock, another process may look for what dead ones left behind."""
    committed: list[int] = []
    lock, looked = fcntl.flock, []

    def late(file: BinaryIO, how: int) -> None:
        if not looked:
            looked.append(file)
            with recover(tmp_path, Completion) as found:
                assert found == []
        lock(file, how)

    monkeypatch.setattr("llm_platform.inference.journal.fcntl.flock", late)

    with Journal(tmp_path, lambda segment: committed.extend(ids_in(segment))) as journal:
        journal(lines(0, 3))

    assert looked
    assert committed == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_torn_line_is_not_an_answer(tmp_path: Path) -> None:
    """The power may go in the middle of a write."""
    crash(tmp_path)
    (segment,) = tmp_path.iterdir()
    text = segment.read_bytes()
    segment.write_bytes(text[:-20])

    with recover(tmp_path, Completion) as found:
        assert ids(found) == [3]


def leave_behind(folder: Path, *written: bytes) -> None:
    """A segment of a process that died."""
    folder.mkdir(exist_ok=True)
    (folder / "dead.journal").write_bytes(b"".join(line + b"\n" for line in written))


def altered(line: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(line), **fields}).encode()


def test_bad_line_in_the_middle_is_set_aside_and_named_and_the_rest_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything behind it was dropped without a word, and was paid for again."""
    first, second, third = lines(0, 3)
    wedging = altered(second, prompt_tokens=2**64)
    leave_behind(tmp_path, first, wedging, b"{torn", third)

    with recover(tmp_path, Completion) as found:
        assert ids(found) == [0, 2]

    assert (tmp_path / SET_ASIDE).read_bytes() == wedging + b"\n{torn\n"
    assert [path.name for path in tmp_path.iterdir()] == [SET_ASIDE]
    assert "release_id 'r', fingerprint 'f1', document_id '1'" in caplog.text
    assert "über" not in caplog.text


def test_line_of_a_newer_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    """An answer is paid for whoever wrote it down; after a rollback of the platform it was lost."""
    first, second = lines(0, 2)
    leave_behind(tmp_path, altered(first, new_field=1), altered(second, status="unheard-of"))

    with recover(tmp_path, Completion) as found:
        assert ids(found) == [0]

    assert b"unheard-of" in (tmp_path / SET_ASIDE).read_bytes()


def test_row_that_no_table_takes_is_found_and_set_aside(tmp_path: Path) -> None:
    """One such row failed every later run of the application, at its start."""
    leave_behind(tmp_path, *lines(0, 9))
    stored: list[int] = []

    def store(batch: list[Completion]) -> None:
        if 5 in ids(batch):
            raise UnstorableRow("no")
        stored.extend(ids(batch))

    with recover(tmp_path, Completion) as found:
        found.store(store)

    assert sorted(stored) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert json.loads((tmp_path / SET_ASIDE).read_bytes())["document_id"] == "5"


def test_storage_that_fails_for_all_sets_nothing_aside(tmp_path: Path) -> None:
    """A full disk is no reason to take answers out of the journal."""

    def store(batch: list[Completion]) -> None:
        raise StorageError("full")

    leave_behind(tmp_path, *lines(0, 3))
    with pytest.raises(StorageError, match="full"), recover(tmp_path, Completion) as found:
        found.store(store)

    with recover(tmp_path, Completion) as found:
        assert ids(found) == [0, 1, 2]
    assert not (tmp_path / SET_ASIDE).exists()


def test_failed_commit_keeps_the_rows_for_the_next_run(tmp_path: Path) -> None:
    """A full lake must not cost the answers that are safe in the journal."""

    def full(segment: Path) -> None:
        raise StorageError("no space")

    with pytest.raises(StorageError, match="no space"), Journal(tmp_path, full, commit_rows=2) as journal:
        journal(lines(0, 2))
    with recover(tmp_path, Completion) as found:
        assert ids(found) == [0, 1]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """It must fail before anything is asked."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="Cannot keep a journal"):
        Journal(tmp_path / "file" / "journal", lambda segment: None)


def test_no_journal_is_nothing_to_recover(tmp_path: Path) -> None:
    """The first run on a machine has no folder yet."""
    with recover(tmp_path / "nothing", Completion) as found:
        assert found == []
    assert not os.path.exists(tmp_path / "nothing")
