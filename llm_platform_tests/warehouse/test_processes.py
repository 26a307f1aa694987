"""Several processes on one lake, as a run, a sensor and a notebook are."""

from __future__ import annotations

import signal

import pytest

from llm_platform.errors import LeaseHeld
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, completion, fill
from llm_platform_tests.warehouse.processes import go, line, proceed, results, start


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_documents_of_concurrent_writers_are_all_there_once(location: LakeLocation, count: int) -> None:
    """DuckLake alone loses some of these commits to 'database is locked' on SQLite; nothing may be lost or doubled."""
    processes = [start("store_own_documents", location, str(name), "3") for name in range(count)]

    go(processes)
    stored = sum(int(result) for result in results(processes))

    with Warehouse.attach(location) as lake:
        keys = lake.application("reviews").documents.table(["document_id"]).column(0).to_pylist()
    assert stored == len(keys) == len(set(keys)) == count * 9


def test_concurrent_writers_of_the_same_answers_store_each_once(location: LakeLocation) -> None:
    """DuckLake has no unique keys: two transactions that each look and insert would both commit."""
    processes = [start("store_same_answers", location, str(name), "3") for name in range(4)]

    go(processes)
    stored = sum(int(result) for result in results(processes))

    with Warehouse.attach(location) as lake:
        keys = lake.frame("reviews", "completions").column("fingerprint").to_pylist()
    assert stored == len(keys) == len(set(keys)) == 9


def test_one_of_two_racing_processes_gets_the_lease(location: LakeLocation) -> None:
    """Two runs that start at the same moment must not both pay."""
    processes = [start("race_for_lease", location, name) for name in ("one", "two")]

    go(processes)
    first_lines = [line(process) for process in processes]
    winner, loser = processes if first_lines[0] == "held" else reversed(processes)
    loser.communicate(timeout=60)
    proceed([winner])

    assert sorted(first_lines) == ["held", "refused"]
    assert results([winner]) == ["held"]
    assert loser.returncode == 0


def test_the_lease_of_a_killed_process_is_free_at_once(location: LakeLocation) -> None:
    """Somebody who restarts a killed run must not wait for an expiry, and what it had committed is kept."""
    with Warehouse.attach(location) as lake:
        fill(lake, "abc")
        process = start("die_holding", location, "killed")
        go([process])
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL

        completions = lake.application("reviews").completions
        assert completions.missing(RELEASE_ID).column("document_id").to_pylist() == ["c"]
        assert answer_all(lake) == 1


def test_a_killed_writer_leaves_whole_commits_and_no_lock(location: LakeLocation) -> None:
    """kill -9 in the middle of anything: what was reported as stored is there once, and others can write."""
    process = start("store_until_killed", location, "victim")
    go([process])
    while int(line(process)) < 3:
        pass
    process.kill()
    rest = process.communicate(timeout=60)[0].split()
    reported = int(rest[-1]) if rest else 3

    with Warehouse.attach(location) as lake:
        completions = lake.application("reviews").completions
        keys = lake.frame("reviews", "completions").column("document_id").to_pylist()
        assert len(keys) == len(set(keys))
        assert reported + 1 <= len(keys) <= reported + 2
        with completions.lease(RELEASE_ID, holder="next") as lease:
            assert completions.append(lease, [completion("d0"), completion("another")]) == 1


def test_the_lease_of_a_living_process_is_respected_past_its_block(location: LakeLocation) -> None:
    """A process of this machine that is alive keeps its lease until it expires, whoever asks."""
    process = start("race_for_lease", location, "holder")
    go([process])
    assert line(process) == "held"

    with Warehouse.attach(location) as lake, pytest.raises(LeaseHeld, match=f"process {process.pid} "):
        lake.application("reviews").completions.lease(RELEASE_ID, holder="other").acquire()

    proceed([process])
    assert results([process]) == ["held"]
