"""Programs that tests of several processes run, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_platform.errors import LeaseHeld
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.object_store import S3Access
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, completion, consumed, document

READY = "ready"
CHECKOUT = Path(__file__).parents[2]


def start(program: str, location: LakeLocation, *arguments: str) -> subprocess.Popen[str]:
    """Start one program; it attaches the lake, says so, and waits for `go`."""
    command = [sys.executable, "-m", __name__, program, json.dumps(asdict(location)), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Let them all begin at once, when all are ready."""
    for process in processes:
        assert line(process) == READY
    proceed(processes)


def proceed(processes: list[subprocess.Popen[str]]) -> None:
    """Let processes that wait for a line go on."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def results(processes: list[subprocess.Popen[str]]) -> list[str]:
    """The last line of each, which must have ended well."""
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [output.strip().splitlines()[-1] for output in outputs]


def say(what: Any) -> None:
    """Print a line at once, for the test to read."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def store_own_documents(lake: Warehouse, name: str, commits: str) -> Any:
    """Insert documents of one's own, a few in each commit, into a table that others write as well."""
    documents = lake.application("reviews").documents
    for number in range(int(commits)):
        rows = [document(f"{name}-{number}-{row}") for row in range(3)]
        documents.apply(batch(rows), deleted=[], full=False, consumed=consumed())
    return int(commits) * 3


def store_same_answers(lake: Warehouse, name: str, commits: str) -> Any:
    """Append the same answers as everybody else, each under a bucket's lease of one's own."""
    completions = lake.application("reviews").completions
    stored = 0
    with completions.lease(RELEASE_ID, holder=name, bucket=int(name)) as lease:
        for number in range(int(commits)):
            stored += completions.append(lease, [completion(f"d{number}-{row}") for row in range(3)])
    return stored


def race_for_lease(lake: Warehouse, name: str) -> Any:
    """Try once to get the lease; keep it until told to go on."""
    try:
        with lake.application("reviews").completions.lease(RELEASE_ID, holder=name):
            say("held")
            sys.stdin.readline()
            return "held"
    except LeaseHeld:
        return "refused"


def die_holding(lake: Warehouse, name: str) -> Any:
    """Store one commit, then be killed with the lease in hand."""
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder=name) as lease:
        completions.append(lease, [completion("a"), completion("b")])
        say("stored")
        os.kill(os.getpid(), signal.SIGKILL)


def store_until_killed(lake: Warehouse, name: str) -> Any:
    """Commit again and again, saying each time what is stored for certain."""
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder=name) as lease:
        for number in range(10_000):
            completions.append(lease, [completion(f"d{number}")])
            say(number)


PROGRAMS = {
    program.__name__: program
    for program in (store_own_documents, store_same_answers, race_for_lease, die_holding, store_until_killed)
}

if __name__ == "__main__":
    place = json.loads(sys.argv[2])
    place["s3"] = place["s3"] and S3Access(**place["s3"])
    with Warehouse.attach(LakeLocation(**place), threads=1) as attached:
        say(READY)
        sys.stdin.readline()
        say(PROGRAMS[sys.argv[1]](attached, *sys.argv[3:]))
