"""Calls on their way to the lake: quick for the caller, and never lost."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_platform.errors import StorageError
from llm_platform.operations.serving.calls import CallRecorder
from llm_platform.records import Call, ModelPin

MODEL = ModelPin(entry="e", served_name="m", dialect="nim-2.x", context_length=4096)


def call(number: int) -> Call:
    return Call(
        call_id=f"call-{number}",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        latency_seconds=0.1,
        caller="program test",
        entry="e",
        model=MODEL,
        endpoint="http://e",
        path="/v1/chat/completions",
        request='{"messages":[]}',
        status=200,
        answer="yes",
    )


class Lake:
    """Keeps what it is given; refuses while it is told to."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.refuses = False
        self.written = threading.Event()

    def __call__(self, calls: list[Call]) -> None:
        if self.refuses:
            raise StorageError("the lake is away")
        self.stored += [one.call_id for one in calls]
        self.written.set()


def never(lake: Lake, folder: Path) -> CallRecorder:
    """A recorder that stores only when it is asked to."""
    return CallRecorder(folder, lake, commit_seconds=3600)


def test_calls_reach_the_lake_by_themselves(tmp_path: Path) -> None:
    """In a notebook nobody calls flush."""
    lake = Lake()
    recorder = CallRecorder(tmp_path, lake, commit_seconds=0.0)

    recorder.record(call(1))

    assert lake.written.wait(timeout=30)
    assert lake.stored == ["call-1"]
    recorder.close()


def test_many_threads_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    """An agent framework calls from wherever it likes, while the background thread stores."""
    lake = Lake()
    recorder = CallRecorder(tmp_path, lake, commit_seconds=0.0)

    def work(first: int) -> None:
        for number in range(first, first + 50):
            recorder.record(call(number))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()

    assert sorted(lake.stored) == sorted(f"call-{number}" for number in range(400))
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_fails_is_loud_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The answer was paid for and its reader has it; the record waits for the lake."""
    lake = Lake()
    lake.refuses = True
    recorder = CallRecorder(tmp_path, lake, commit_seconds=0.0)
    with caplog.at_level(logging.ERROR):
        recorder.record(call(1))
        with pytest.raises(StorageError, match="the lake is away"):
            recorder.close()

    lake.refuses = False
    recorder.record(call(2))
    recorder.close()

    assert sorted(lake.stored) == ["call-1", "call-2"]


def test_a_disk_that_fails_is_loud_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With no place for a journal there is still the memory of this process."""
    lake, folder = Lake(), tmp_path / "calls"
    folder.write_text("a file where the folder should be")
    recorder = never(lake, folder)

    with caplog.at_level(logging.ERROR):
        recorder.record(call(1))

    assert "only in memory" in caplog.text
    recorder.close()
    assert lake.stored == ["call-1"]


RECORD = """
import os, signal, sys
from pathlib import Path
from llm_platform_tests.operations.serving.test_calls import Lake, call, never
recorder = never(Lake(), Path(sys.argv[1]))
for number in range(3):
    recorder.record(call(number))
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("end", "status"), [("kill", -signal.SIGKILL), ("leave", 0)])
def test_a_process_that_ends_leaves_its_calls_to_the_next(tmp_path: Path, end: str, status: int) -> None:
    """A kernel is restarted in the middle of everything; a script that ends stores its calls by itself."""
    finished = subprocess.run([sys.executable, "-c", RECORD, str(tmp_path), end], check=False, timeout=120)

    lake = Lake()
    never(lake, tmp_path).flush()

    assert finished.returncode == status
    # The script's own lake has taken them where it came to its end.
    assert lake.stored == ([f"call-{number}" for number in range(3)] if end == "kill" else [])
    assert list(tmp_path.iterdir()) == []


def test_recording_does_not_wait_for_the_lake(tmp_path: Path) -> None:
    """A commit that hangs must not hold up the next call."""
    entered, leave = threading.Event(), threading.Event()

    def slow(_: list[Call]) -> None:
        entered.set()
        leave.wait(timeout=30)

    recorder = CallRecorder(tmp_path, slow, commit_seconds=0.0)
    recorder.record(call(1))
    assert entered.wait(timeout=30)

    recorder.record(call(2))  # returns while the first commit hangs

    leave.set()
    recorder.close()
