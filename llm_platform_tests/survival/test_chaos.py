"""Runs that are killed at moments nobody chose, one after the other on one state, and a reader who trusts nothing.

`make chaos` runs it; `CHAOS_SEED` repeats the moments of a run that failed, `CHAOS_KILLS` says how many there are.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow.parquet as pq
import pytest

from llm_platform_tests.survival.command import Moment, Running, Terminal
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.team import NAME, Team, right_answer

KILLS = int(os.environ.get("CHAOS_KILLS", "50"))
DOCUMENTS = 60
IN_FLIGHT = 16
"""Twice the slots that the lock entry names."""
LATENCY_SECONDS = 0.05
UNSYNCED = IN_FLIGHT * 10
"""Answers that may come back between two syncs of the journal, on a machine that is twice as slow as it should be."""


@dataclass
class Reader:
    """Reads the files of a lake with SQLite and Parquet alone: none of the platform's code has a say in what is found.

    Attributes:
        answers: (release, document, fingerprint) of every answer ever seen, and its run.
        events: Rollout events, in the order of their sequence.
    """

    team: Team
    answers: dict[tuple[str, str, str], str] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)

    def rows(self, table: str) -> list[dict[str, object]]:
        """What the newest snapshot of a table holds."""
        folder = self.team.settings.namespace_folder
        with closing(sqlite3.connect(folder / "catalog.sqlite")) as catalog:
            assert catalog.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = catalog.execute(
                "SELECT t.table_id, s.path || t.path FROM ducklake_table t JOIN ducklake_schema s USING (schema_id) "
                "WHERE s.schema_name = ? AND t.table_name = ? AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL",
                [NAME, table],
            ).fetchall()
            if not found:
                return []
            [(table_id, path)] = found
            files = catalog.execute(
                "SELECT f.path, d.path, f.record_count FROM ducklake_data_file f LEFT JOIN ducklake_delete_file d "
                "ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL "
                "WHERE f.table_id = ? AND f.end_snapshot IS NULL ORDER BY f.data_file_id",
                [table_id],
            ).fetchall()
        rows: list[dict[str, object]] = []
        for name, deleted, count in files:
            stored = pq.read_table(folder / "data" / path / name).to_pylist()
            assert len(stored) == count, f"{name} is not what the catalog says"
            gone = set()
            if deleted is not None:
                gone = set(pq.read_table(folder / "data" / path / deleted)["pos"].to_pylist())
            rows += [row for position, row in enumerate(stored) if position not in gone]
        return rows

    def look(self) -> None:
        """Hold what is stored now against what must always be so, and against what was there before."""
        completions = self.rows("completions")
        stored = {_key(row): str(row["run_id"]) for row in completions}
        assert len(stored) == len(completions), "an answer is stored twice"
        changed = {key for key, run in self.answers.items() if stored.get(key) != run}
        assert changed == set(), "an answer that was stored is gone, or was asked for again"
        self.answers = stored

        rollout = self.rows("rollout")
        events = sorted((int(str(row["sequence"])), str(row["event_id"])) for row in rollout)
        assert [number for number, _ in events] == list(range(1, len(events) + 1)), "the history has a hole or a fork"
        assert events[: len(self.events)] == self.events, "the history was rewritten"
        self.events = events
        reports = {row["report_id"]: row for row in self.rows("reports")}
        for event in rollout:
            report = reports[event["report_id"]]
            assert report["passed"], "a report that refuses made a champion"
            assert report["release_id"] == event["release_id"], "a champion stands on the report of another release"

        self.published({row["release_id"] for row in rollout})

    def published(self, promoted: set[object]) -> None:
        """Hold what readers get against the releases that were promoted."""
        published = self.rows("published_v1")
        times = Counter(row["document_id"] for row in published)
        assert [key for key, count in times.items() if count > 1] == [], "a document is published twice"
        releases = {row["release_id"] for row in published}
        assert len(releases) <= 1, "two releases are published at once"
        assert releases <= promoted, "what is published was never promoted"
        for row in published:
            if row["status"] == "valid":
                assert row["answer"] == right_answer(int(str(row["document_id"]))), "another document's answer"


def _key(row: dict[str, object]) -> tuple[str, str, str]:
    return str(row["release_id"]), str(row["document_id"]), str(row["fingerprint"])


@dataclass
class Havoc:
    """Changes files and kills runs by a seed."""

    terminal: Terminal
    dice: random.Random
    documents: int = DOCUMENTS
    prompts: int = 0

    def work(self) -> None:
        """Give the next run something to do: further documents, or another prompt."""
        team = self.terminal.team
        if self.dice.random() < 0.5:
            self.documents += self.dice.randint(1, 20)
            numbers = range(self.documents)
            team.write_documents({f"{number}": team.text(number) for number in numbers})
            team.write_references({f"{number}": right_answer(number) for number in numbers})
        else:
            self.prompts += 1
            team.write_prompt("clear", f"Say clearly ({self.prompts}) whether this is HAPPY or SAD: {{{{ text }}}}")

    def kill(self, run: Running, requested: Moment, seconds: float) -> bool:
        """Kill a run at its moment, or after so many seconds at the latest; whether it was still at work."""
        deadline = time.monotonic() + seconds
        while run.is_alive and not requested.is_reached and time.monotonic() < deadline:
            time.sleep(0.01)
        if requested.is_reached:
            time.sleep(self.dice.random())
        alive = run.is_alive
        if alive:
            run.signal(signal.SIGKILL)
        run.finished()
        return alive


@pytest.mark.chaos
@pytest.mark.timeout(4 * 3600)
def test_kills_at_any_moment_lose_and_double_nothing(desk: MakeDesk, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody foresees the moment: while a lake is opened, asked, journalled, stored, judged, promoted or published."""
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    with capsys.disabled():
        sys.stdout.write(f"\nCHAOS_SEED={seed} CHAOS_KILLS={KILLS}\n")
    terminal, model = desk(DOCUMENTS, latency_seconds=LATENCY_SECONDS)
    havoc, reader = Havoc(terminal, random.Random(seed)), Reader(terminal.team)
    begun = time.monotonic()
    whole = terminal.run("run", NAME)
    seconds = time.monotonic() - begun
    assert whole.status == 0, whole.said
    reader.look()

    killed = 0
    while killed < KILLS:
        if havoc.dice.random() < 0.7:
            havoc.work()
        # Half of the kills hit the time in which answers come back, which is a small part of a run.
        soon = havoc.dice.randint(1, havoc.documents) if havoc.dice.random() < 0.5 else 10**9
        requested = Moment(model, model.counts.requests + soon)
        killed += havoc.kill(terminal.start("run", NAME), requested, havoc.dice.uniform(0.0, seconds))
        reader.look()

    last = terminal.run("run", NAME)

    assert last.status == 0, f"{seed}: {last.said}"
    reader.look()
    assert {row["document_id"] for row in reader.rows("published_v1")} == {f"{n}" for n in range(havoc.documents)}
    paid_again = model.counts.answered.total() - len(reader.answers)
    assert 0 <= paid_again <= killed * UNSYNCED, f"{seed}: {paid_again} answers were paid for and lost"
