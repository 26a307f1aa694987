"""What is kept of whole tables and moved on by changes is what counting everything anew gives."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pyarrow as pa
import pytest

from llm_platform.warehouse.changes import AllBut
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.published import Served
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.warehouse.tallies import Tallies
from llm_platform_tests.warehouse.builders import (
    RELEASE_ID,
    answer_all,
    batch,
    completion,
    consumed,
    document,
    fill,
)

OTHER = "release-2"


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_moved_on_is_what_counting_anew_gives(local_lake: Warehouse, seed: int) -> None:
    """Evidence is bound to these numbers: one that drifts from the tables would approve what nobody has measured."""
    draw, store = random.Random(seed), local_lake.application("reviews")
    snapshots = 1
    fill(local_lake, [f"{number:03d}" for number in range(60)])
    steps = [*[_change] * 4, *[_answer] * 3, _lose, _retry, _compact]
    moved = 0
    for _ in range(12):
        snapshots += 1
        draw.choice(steps)(local_lake, store, draw, snapshots)
        if draw.random() < 0.6:
            moved += _require_exact(store)
        if draw.random() < 0.5:
            store.tallies.keep()
            _forget_process(store)

    assert moved + _require_exact(store) > 0


def test_a_change_is_counted_without_a_pass(local_lake: Warehouse) -> None:
    """The history of the tables is enough: a table of any size is only asked for the rows that changed."""
    store = local_lake.application("reviews")
    fill(local_lake, [f"{number:03d}" for number in range(60)])
    answer_all(local_lake)
    store.tallies.answers(RELEASE_ID)
    store.tallies.keep()
    _forget_process(store)
    rows = batch([document("007", fingerprint="new"), document("100")])

    store.documents.apply(rows, deleted=["003"], full=False, consumed=consumed(2))

    assert store.tallies.unanswered(RELEASE_ID) == ["new", "text of 100"]
    assert store.completions.missing(RELEASE_ID)["document_id"].to_pylist() == ["007", "100"]
    answers = [completion("007", fingerprint="new"), completion("100")]
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, answers)
    assert store.tallies.unanswered(RELEASE_ID) == []
    assert store.tallies.unanswered("never counted") is None


def test_a_lake_without_tallies_is_counted_once(local_lake: Warehouse) -> None:
    """One that an older version wrote has none: its first run counts all, and keeps what it found."""
    store = local_lake.application("reviews")
    fill(local_lake, ["a", "b"])
    answer_all(local_lake)

    assert store.completions.missing_count(RELEASE_ID) == 0
    store.tallies.keep()
    snapshot = local_lake.snapshot()
    store.tallies.keep()

    assert local_lake.snapshot() == snapshot


def test_what_is_published_from_changes_is_what_all_rows_would_be(local_lake: Warehouse) -> None:
    """Only rows that can differ are compared: one that is passed over would stay wrong for ever."""
    draw, store = random.Random(4), local_lake.application("reviews")
    fill(local_lake, [f"{number:03d}" for number in range(60)])
    compared = []
    for number in range(2, 10):
        draw.choice([_change, _change, _retry, _compact])(local_lake, store, draw, number)
        _answer_all(store, draw, number)
        contracts = store.published._contracts(1)
        compared.append(store.published.changed_since(Served(RELEASE_ID, None, ()), contracts))

        store.published.publish(RELEASE_ID, 1)
        store.tallies.keep()

        answers = {row["fingerprint"]: row for row in store.completions.of_release(RELEASE_ID).to_pylist()}
        sendable = {
            row["document_id"]: answers[row["fingerprint"]] if row["status"] == "sendable" else row
            for row in store.documents.table().to_pylist()
        }
        published = {row["document_id"]: row for row in store.published.table(1).to_pylist()}
        assert {key: row["status"] for key, row in published.items()} == {
            key: row["status"] for key, row in sendable.items()
        }
        assert all(row["answer"] == sendable[key].get("answer") for key, row in published.items())
        version, held = store.published.data_version(1), store.published.violations(contracts[0])
        _forget_process(store)
        store.tallies.forget()
        assert (version, held) == (store.published.data_version(1), store.published.violations(contracts[0]))
        _session(store).recount.clear()

    assert any(keys is not None and len(keys) < len(published) for keys in compared)


def _answer_all(store: ApplicationStore, draw: random.Random, number: int) -> None:
    missing = store.completions.missing(RELEASE_ID).select(["document_id", "fingerprint"]).to_pylist()
    rows = [
        completion(row["document_id"], fingerprint=row["fingerprint"], answer=draw.choice(["HAPPY", "SAD", None]))
        for row in missing
    ]
    if rows:
        with store.completions.lease(RELEASE_ID, holder="test") as lease:
            store.completions.append(lease, rows)


def _change(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    keys = [f"{one:03d}" for one in draw.sample(range(80), 6)]
    statuses = draw.choices(["sendable", "empty"], weights=[8, 1], k=6)
    rows = [
        # Few different texts, so that documents share them, and lose what they shared.
        document(key, fingerprint=f"text {draw.randrange(30)}", status=status, attributes=f'{{"n":{number}}}')
        for key, status in zip(keys, statuses, strict=True)
    ]
    gone = [f"{one:03d}" for one in draw.sample(range(80), 2)]
    deleted: Sequence[str] | AllBut = [key for key in gone if key not in keys]
    if draw.random() < 0.3:
        there = [key for key in _keys(store) if key not in gone]
        deleted = AllBut(pa.table({"document_id": sorted({*there, *keys})}))
    store.documents.apply(batch(rows), deleted=deleted, full=False, consumed=consumed(number))


def _answer(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    release = draw.choice([RELEASE_ID, OTHER])
    missing = store.completions.missing(release).select(["document_id", "fingerprint"]).to_pylist()
    chosen = missing if draw.random() < 0.5 else missing[::2]
    rows = [
        completion(
            row["document_id"],
            fingerprint=row["fingerprint"],
            release_id=release,
            answer=draw.choice(["HAPPY", "SAD", None]),
            latency_seconds=draw.random(),
            reused=draw.random() < 0.2,
            run_id=f"run {number}",
        )
        for row in chosen
    ]
    if rows:
        with store.completions.lease(release, holder="test") as lease:
            store.completions.append(lease, rows)


def _lose(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    store.completions.discard([RELEASE_ID, OTHER], f"run {draw.randrange(number)}")


def _retry(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    failed = [one.fingerprint for one in store.failures.of_release(RELEASE_ID)]
    if failed:
        with store.completions.lease(RELEASE_ID, holder="test") as lease:
            store.failures.set_aside(lease, "request-1", failed[::2])


def _compact(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    lake.compact(keep_days=draw.choice([0.0, 30.0, 30.0, 30.0]))


def _require_exact(store: ApplicationStore) -> int:
    """How many of the tallies were moved on."""
    names = [RELEASE_ID, OTHER]
    moved = [store.tallies.documents(), *(store.tallies.answers(name) for name in names)]
    unanswered = {name: store.tallies.unanswered(name) for name in names}
    kept = dict(_session(store).counted)
    read = _session(store).stored_tallies.values()
    moved_on = sum(1 for one in kept.values() if one not in read and one.content.get("moved"))
    store.tallies.forget()
    counted = [store.tallies.documents(), *(store.tallies.answers(name) for name in names)]
    for name in names:
        missing = sorted(set(store.completions.missing(name)["fingerprint"].to_pylist()))
        assert unanswered[name] in (None, missing)
    _session(store).counted, _session(store).recount = kept, set()
    assert moved == counted
    return moved_on


def _keys(store: ApplicationStore) -> list[str]:
    found: list[str] = store.documents.table(["document_id"])["document_id"].to_pylist()
    return found


def _session(store: ApplicationStore) -> Session:
    return store.tallies._session


def _forget_process(store: ApplicationStore) -> None:
    """As a new process begins: with what is stored."""
    _session(store).counted.clear()
    _session(store).stored_tallies.clear()
    _session(store).tallies_read_at.clear()
    assert isinstance(store.tallies, Tallies)
