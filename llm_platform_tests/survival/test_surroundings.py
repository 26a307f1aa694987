"""A machine that other things happen on: locks held by others, a clock that is set."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from llm_platform_tests.survival.command import Moment
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME

LOCKED_SECONDS = 3.0
HOUR_SECONDS = 3600

# Read by the interpreter before anything else; the clock is ahead by what the file says.
CLOCK = """
import pathlib, time
_real, _ahead = time.time, pathlib.Path({path!r})
time.time = lambda: _real() + float(_ahead.read_text() or 0)
"""


@pytest.mark.slow
def test_lake_that_another_program_locks_is_waited_for(desk: MakeDesk) -> None:
    """A backup, or somebody's shell on the catalog: commits wait, nothing is lost, asked again or stored twice."""
    terminal, model = desk(200, latency_seconds=0.02)

    def lock() -> None:
        catalog = terminal.team.settings.namespace_folder / "catalog.sqlite"
        connection = sqlite3.connect(catalog, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        threading.Timer(LOCKED_SECONDS, connection.close).start()

    Moment(model, 60, lock)
    finished = terminal.run("run", NAME)

    assert finished.status == 0, finished.said
    assert ledger(terminal.team).is_whole(200)
    assert model.counts.requests == 400


@pytest.mark.slow
def test_clock_that_jumps_changes_nothing(desk: MakeDesk, tmp_path: Path) -> None:
    """A machine that wakes up, or a time server that corrects it: an hour ahead and back within one run."""
    terminal, model = desk(200, latency_seconds=0.02)
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK.format(path=str(ahead)))
    terminal.variables["PYTHONPATH"] = os.pathsep.join(
        [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )

    def jump(seconds: int) -> None:
        beside = ahead.with_suffix(".new")
        beside.write_text(str(seconds))
        beside.replace(ahead)

    Moment(model, 60, lambda: jump(HOUR_SECONDS))
    Moment(model, 240, lambda: jump(-HOUR_SECONDS))
    finished = terminal.script("run", NAME)

    assert finished.status == 0, finished.said
    assert ahead.read_text() == str(-HOUR_SECONDS)
    assert ledger(terminal.team).is_whole(200)
    assert model.counts.requests == 400


@pytest.mark.slow
def test_a_file_of_the_lake_that_was_deleted_is_named_with_the_way_back(desk: MakeDesk) -> None:
    """Somebody tidied up the data folder: what is missing, and that a backup brings it back, and no trace."""
    terminal, _ = desk()
    terminal.run("run", NAME)
    files = sorted((terminal.team.settings.namespace_folder / "data").rglob("documents/*.parquet"))
    for file in files:
        file.unlink()

    finished = terminal.run("run", NAME)

    assert files
    assert finished.failed_plainly, finished.said
    assert any(file.name in finished.err for file in files)
    assert "backup" in finished.err


@pytest.mark.slow
def test_ctrl_c_while_a_lake_is_opened_ends_without_a_trace(desk: MakeDesk) -> None:
    """Whoever waits for a locked lake and gives up has done nothing wrong."""
    terminal, _ = desk()
    terminal.run("run", NAME)
    lock = terminal.team.settings.namespace_folder / "catalog.sqlite.attach.lock"
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = terminal.start("estimate", NAME)
        for _ in range(600):
            if "Waiting to write the lake" in running.said:
                break
            threading.Event().wait(0.1)
        running.signal(signal.SIGINT)
        finished = running.finished()

    assert finished.status == 130
    assert "Traceback" not in finished.said
    assert f"process {os.getpid()} holds" in finished.err
