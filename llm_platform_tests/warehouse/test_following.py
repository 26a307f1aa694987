"""What a connection remembers of a lake is what the lake says."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from llm_platform.warehouse.coordination_sqlite import FileCoordinator
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.tallies import Tallies
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, completion, consumed, document, event, fill
from llm_platform_tests.warehouse.conftest import sqlite_location


def test_a_question_is_asked_once_until_somebody_writes_its_table(
    lake: Warehouse, location: LakeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run asks dozens of times which release serves; each query on a lake costs 10 ms of CPU."""
    fill(lake, "ab")
    store = lake.application("reviews")
    store.rollout.append(event("1"), expected_previous=None)
    asked = _count_questions(monkeypatch)
    with Warehouse.attach(location, threads=1) as other:
        time.sleep(0.05)  # files that were written a moment ago say nothing
        store.rollout.champion()
        before = len(asked)

        same = [store.rollout.champion() for _ in range(5)]
        store.documents.apply(batch([document("c")]), deleted=(), full=False, consumed=consumed(2))
        still = store.rollout.champion()
        of_rollout = [sql for sql in asked[before:] if '"rollout"' in sql]
        other.application("reviews").rollout.append(event("2"), expected_previous="1")
        changed = store.rollout.champion()

    assert {one.event_id for one in [*same, still] if one is not None} == {"1"}
    assert of_rollout == []
    assert changed is not None
    assert changed.event_id == "2"


def test_what_is_read_is_what_is_there_whoever_has_written(lake: Warehouse, location: LakeLocation) -> None:
    """An old answer would approve, publish or send by a state that is gone: at once after a commit, too."""
    draw, events = random.Random(1), 0
    fill(lake, "ab")
    with Warehouse.attach(location, threads=1) as other:
        since = {one: one.snapshot() for one in (lake, other)}
        for number in range(2, 12):
            writer = draw.choice([lake, other])
            store = writer.application(draw.choice(["reviews", "reviews", "letters"]))
            match draw.randrange(6):
                case 0:
                    events += 1
                    champion = store.rollout.champion()
                    previous = None if champion is None else champion.event_id
                    store.rollout.append(event(str(number)), expected_previous=previous)
                case 1:
                    rows = batch([document(draw.choice("abcd"), fingerprint=f"text {number}")])
                    store.documents.apply(rows, deleted=(), full=False, consumed=consumed(number))
                case 2:
                    store.completions.restore([completion(draw.choice("abcdef"), answer=draw.choice(["A", "B"]))])
                case 3:
                    store.tallies.documents()
                    store.tallies.keep()
                case 4:
                    writer.compact(keep_days=draw.choice([0.0, 30.0]))
                case _:
                    pass
            for reader in (lake, other):
                _require_true(reader, since[reader])

    assert events


def test_files_that_may_be_in_the_middle_of_a_commit_say_nothing(tmp_path: Path) -> None:
    """A commit is in the files before it can be read: to believe them then would hide it until the next one."""
    place = sqlite_location(tmp_path)
    with Warehouse.attach(place) as lake:
        fill(lake, "a")
    catalog = Path(place.target)
    asking, writing = FileCoordinator(catalog), FileCoordinator(catalog)
    # As of a moment that has not passed, however long it takes to get here.
    soon, long_ago = time.time() + 60, time.time() - 10
    os.utime(catalog, (soon, soon))
    just_now = asking.settled_mark()
    os.utime(catalog, (long_ago, long_ago))

    with writing.write_lock("reviews"):
        while_written, by_writer = asking.settled_mark(), writing.settled_mark()

    assert just_now is None
    assert while_written is None
    assert by_writer == asking.settled_mark() == asking.mark()


def test_a_foreign_program_is_seen_after_a_while_in_any_case(
    local_lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes without our lock, and within one tick, leaves files that look as before."""
    fill(local_lake, "a")
    following = _session(local_lake)._following
    monkeypatch.setattr(following._coordinator, "settled_mark", lambda: "the same")
    known = following.newest()
    following.newest()
    _session(local_lake)._connection.execute("CREATE TABLE lake.reviews.foreign_table (a INTEGER)")

    hidden = following.newest()
    monkeypatch.setattr("llm_platform.warehouse.following.MOST_SECONDS", 0.0)

    assert (hidden, following.newest()) == (known, known + 1)


def test_a_lake_of_another_time_in_its_place_is_read_anew(local_lake: Warehouse) -> None:
    """A backup that is brought back has fewer snapshots; what was remembered is of another history."""
    fill(local_lake, "a")
    session = _session(local_lake)
    assert session.rows(f"SELECT document_id FROM {session.relation('reviews', 'documents')}") == [("a",)]
    session._following._snapshot = session.snapshot() + 5
    session._following.committed()

    assert session.snapshot() == session._ask(session._newest_snapshot("lake"))[0][0]
    assert not session._following._answers


def _require_true(lake: Warehouse, since: int) -> None:
    """Every kind of question, against what the engine says now."""
    session = _session(lake)
    assert session.snapshot() == session._ask(session._newest_snapshot("lake"))[0][0]
    for application in ("reviews", "letters"):
        now = session._columns_of_tables(application, catalog="lake")
        for table in ("documents", "completions", "rollout", "tallies"):
            assert session.columns(application, table) == now.get(table, frozenset())
            relation = session.relation(application, table)
            sql = f"SELECT * FROM {relation} ORDER BY ALL"
            assert session.rows(sql) == session._ask(sql)
            assert session.table(sql).num_rows == len(session._ask(sql))
            recorded = session._is_recorded_since(since, application, table, "lake")
            if session.has_snapshot(since):
                assert session.is_written_since(since, application, table) == recorded
    store = lake.application("reviews")
    counted, anew = store.tallies.answers(RELEASE_ID), Tallies(session, "reviews")
    kept = dict(session.counted)
    anew.forget()
    assert counted == anew.answers(RELEASE_ID)
    session.counted, session.recount = kept, set()


def _session(lake: Warehouse) -> Session:
    return lake._session


def _count_questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    real = Session._ask

    def ask(self: Session, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        asked.append(sql)
        return real(self, sql, parameters)

    monkeypatch.setattr(Session, "_ask", ask)
    return asked
