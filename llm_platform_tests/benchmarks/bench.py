"""Starting what is measured: endpoints on one core, one client on another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from llm_platform_tests.benchmarks.client import Job, Measured
from llm_platform_tests.benchmarks.lake import fill
from llm_platform_tests.benchmarks.server import Options

ROOT = Path(__file__).parents[2]
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0] if len(_CORES) > 1 else -1
CLIENT_CORE = _CORES[-1] if len(_CORES) > 1 else -1
_CLIENT_SECONDS = 1200


class Served:
    """A running endpoint."""

    def __init__(self, process: subprocess.Popen[bytes], options: Options) -> None:
        assert process.stdout is not None
        self.options = options
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"

    def counts(self) -> dict[str, float]:
        """What it has seen."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as reply:
            counted: dict[str, float] = json.loads(reply.read())
        return counted


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """An endpoint in a process of its own, for the length of a `with` block."""
    given = Options(**options, core=SERVER_CORE)
    command = [sys.executable, "-m", "llm_platform_tests.benchmarks.server", *given.arguments()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Served(process, given)
        finally:
            process.kill()


def run(mode: str, servers: list[Served], rows: int, **job: Any) -> Measured:
    """One client over a lake of its own; see `Job`."""
    with ExitStack() as stack:
        if mode == "ours" and "lake" not in job:
            job["lake"] = str(stack.enter_context(lake_of(rows)))
        process = stack.enter_context(start(mode, servers, rows, **job))
        out, _ = process.communicate(timeout=_CLIENT_SECONDS)
    if process.returncode:
        raise AssertionError(f"the client {mode!r} ended with status {process.returncode}; its message is above")
    return Measured(**json.loads(out))


def start(mode: str, servers: list[Served], rows: int, **job: Any) -> subprocess.Popen[bytes]:
    """The client's process, just started."""
    given = Job(mode, [one.url for one in servers], rows, core=CLIENT_CORE, **job)
    command = [sys.executable, "-m", "llm_platform_tests.benchmarks.client", given.argument()]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@contextmanager
def lake_of(rows: int) -> Iterator[Path]:
    """A folder with a lake of so many documents and no answers."""
    with tempfile.TemporaryDirectory(prefix="llm_platform_bench_") as folder:
        fill(Path(folder), rows)
        yield Path(folder)


def kill_at(server: Served, process: subprocess.Popen[bytes], *, answered: int) -> float:
    """`kill -9` a client once so many rows were answered; how many were in flight then."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        counts = server.counts()
        if counts["answered"] >= answered:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return counts["in_flight"]
        # Only to leave the core to the endpoint; nothing is decided by it.
        time.sleep(0.01)
    raise AssertionError(f"only {counts['answered']} rows were answered within a minute")
