"""Runs in real processes that are terminated and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from llm_platform_tests.inference.asking_process import POLICY
from llm_platform_tests.servers.scripted import ScriptedServer

ROOT = Path(__file__).parents[2]
COUNT = 400


def start(server: ScriptedServer, stored: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llm_platform_tests.inference.asking_process", server.url, str(stored), str(COUNT)]
    # Standard error goes to a file: a pipe that nobody reads would hold the process up.
    with (stored.parent / "stderr.txt").open("wb") as stderr:
        return subprocess.Popen(command, cwd=ROOT, stderr=stderr)


def signal_halfway(server: ScriptedServer, number: signal.Signals) -> Callable[[subprocess.Popen[bytes]], int]:
    """Signal the process once half of the documents were asked for; its exit status."""
    halfway = threading.Event()
    script = server.script

    def watching(seen: object) -> None:
        if server.counts.requests > COUNT // 2:
            halfway.set()

    server.script = lambda seen: watching(seen) or script(seen)

    def wait(process: subprocess.Popen[bytes]) -> int:
        assert halfway.wait(30)
        process.send_signal(number)
        return process.wait(timeout=30)

    return wait


def test_killed_run_asks_again_only_for_what_was_not_stored(tmp_path: Path) -> None:
    """`kill -9` cannot be caught: what was in flight and one batch are lost, nothing else; nothing is stored twice."""
    stored = tmp_path / "stored.txt"

    with ScriptedServer(latency_seconds=0.02) as server:
        wait = signal_halfway(server, signal.SIGKILL)
        status = wait(start(server, stored))
        committed = set(stored.read_text().split())
        again = start(server, stored)
        assert again.wait(timeout=60) == 0

        rows = Counter(stored.read_text().split())
        sent_again = [document for document, times in server.counts.asked.items() if times > 1]

    assert status == -signal.SIGKILL
    assert rows == Counter(str(number) for number in range(COUNT))
    assert not committed & set(sent_again)
    # In flight, and what the engine lets wait for the disk, however slow that is.
    assert len(sent_again) <= (POLICY.limit or 0) + POLICY.max_backlog_rows


def test_terminated_run_stores_everything_that_came_back(tmp_path: Path) -> None:
    """SIGTERM is how schedulers stop a run: there are seconds to finish, and they suffice."""
    stored = tmp_path / "stored.txt"

    with ScriptedServer(latency_seconds=0.02) as server:
        wait = signal_halfway(server, signal.SIGTERM)
        status = wait(start(server, stored))
        answered = set(server.counts.answered)

    assert status != 0
    assert "KeyboardInterrupt" in (tmp_path / "stderr.txt").read_text()
    assert set(stored.read_text().split()) == answered
    assert COUNT // 2 <= len(answered) < COUNT
