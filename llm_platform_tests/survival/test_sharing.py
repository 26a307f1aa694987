"""Several processes that answer the documents of one application."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from llm_platform_tests.servers.faults import Held
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.command import PATIENCE_SECONDS, Moment, Terminal, asked_more_than
from llm_platform_tests.survival.ledger import askers, wait_until_kept
from llm_platform_tests.team import NAME, Team, answer

DOCUMENTS = 750
IN_FLIGHT = 16
"""Of each process: twice the slots that the lock entry names."""
LATENCY_SECONDS = 0.1
ARRIVAL_LATENCY_SECONDS = 1.0
"""Of each answer until all processes are at work: they need some seconds to come up on a busy machine."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def catalog(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Setting of the catalog: None for a SQLite file in the state folder, or a Postgres database of its own."""
    if request.param == "sqlite":
        yield None
        return
    dsn = request.getfixturevalue("postgres_dsn")
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS sharing")
        cursor.execute("CREATE DATABASE sharing")
    connection.close()
    yield "postgres:" + dsn.replace("dbname=postgres", "dbname=sharing")


def read_documents(team: Team) -> None:
    job = team.definitions().resolve_job_def(NAME)
    with dg.DagsterInstance.ephemeral() as instance:
        documents = [dg.AssetKey([NAME, "documents"])]
        assert job.execute_in_process(instance=instance, asset_selection=documents, run_config=QUIET).success


def wait_for_answers(team: Team, processes: int) -> None:
    """Wait until each of so many processes has received answers, which it keeps in a journal of its own."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    folder = team.settings.namespace_folder / "journal"
    runs: set[str] = set()
    while len(runs) < processes:
        assert time.monotonic() < deadline, runs
        for path in folder.rglob("*.journal"):
            # A segment goes once it is committed, and the last line may be half written.
            with suppress(FileNotFoundError):
                whole = path.read_bytes().split(b"\n")[:-1]
                runs |= {json.loads(line)["run_id"] for line in whole}
        pause.wait(0.02)


def rows_by_bucket(team: Team) -> dict[int, list[str]]:
    """Bucket → runs that asked for its stored answers, in the order in which they came back."""
    with team.warehouse.open(read_only=True) as lake:
        rows = lake.frame(NAME, "completions").sort_by("created_at").to_pylist()
        buckets = {row["document_id"]: row["bucket"] for row in lake.frame(NAME, "documents").to_pylist()}
    found: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        found[buckets[row["document_id"]]].append(row["run_id"])
    return found


def test_three_processes_share_the_documents_and_a_killed_one_costs_what_was_in_flight(
    tmp_path: Path, catalog: str | None
) -> None:
    """Two work on to the end and take over what the third had leased and received; no bucket has two at once."""
    with ScriptedServer(answer=answer, latency_seconds=ARRIVAL_LATENCY_SECONDS) as model:
        team = Team(tmp_path, model.url, documents=DOCUMENTS, catalog=catalog)
        read_documents(team)
        terminal = Terminal(team, **({"LLM_PLATFORM_CATALOG": catalog} if catalog else {}))
        killed, *others = [terminal.start("answer", NAME, "clear") for _ in range(3)]
        wait_for_answers(team, 3)
        model.latency_seconds = LATENCY_SECONDS
        dead, enough = threading.Event(), model.counts.requests + 100
        model.script = lambda seen: Held(dead.is_set) if seen.number >= enough else None
        Moment(model, enough + 1).wait(killed)
        # Whatever the disk takes; what is in flight is not answered until the process is dead.
        wait_until_kept(team, "clear", model.counts.answered)
        killed.signal(signal.SIGKILL)
        assert killed.finished().status == -signal.SIGKILL
        dead.set()
        finished = [one.finished() for one in others]

    assert [one.status for one in finished] == [0, 0], [one.said for one in finished]
    assert set(model.counts.asked) == {str(number) for number in range(DOCUMENTS)}
    sent_again = asked_more_than(model.counts, 1)
    assert not asked_more_than(model.counts, 2)
    assert len(sent_again) <= IN_FLIGHT
    stored = rows_by_bucket(team)
    assert sum(map(len, stored.values())) == DOCUMENTS
    assert len(askers(team, "clear")) == 3
    # One run after the other in each bucket: of a bucket that was taken over, the killed one's come first.
    turns = [[run for run, _ in itertools.groupby(runs)] for runs in stored.values()]
    assert all(len(runs) == len(set(runs)) for runs in turns), turns
