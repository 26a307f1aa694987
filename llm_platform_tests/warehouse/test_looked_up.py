"""What a process has looked up of texts is what the tables say of them, at the snapshot that is asked about."""

from __future__ import annotations

from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, batch, completion, consumed, document, fill


def test_answers_that_come_later_are_found_and_those_of_before_are_not_mixed_up(local_lake: Warehouse) -> None:
    """Sums are moved on to one snapshot: an answer of after it would be counted twice, one that is missed never."""
    store = local_lake.application("reviews")
    fill(local_lake, "abc")
    answer_all(local_lake)
    texts = ["text of a", "text of d"]
    before = local_lake.snapshot()
    assert _answered(store, texts) == ["text of a"]

    _append(store, "d")

    assert _answered(store, texts) == texts
    assert _answered(store, texts, at=before) == ["text of a"]
    assert _answered(store, ["text of b"], at=before) == ["text of b"]
    store.completions.discard([RELEASE_ID], "run of d")
    assert _answered(store, texts) == ["text of a"]


def test_who_has_a_text_is_told_as_documents_change(local_lake: Warehouse) -> None:
    """A text is counted once for each document that has it, and for none that has left."""
    store = local_lake.application("reviews")
    fill(local_lake, "abc")
    texts = ["text of a", "text of b", "nobody's"]
    before = local_lake.snapshot()
    assert _held(store, texts) == {"text of a": 1, "text of b": 1}

    rows = batch([document("c", fingerprint="text of a"), document("d", fingerprint="text of b", status="empty")])
    store.documents.apply(rows, deleted=["b"], full=False, consumed=consumed(2))

    assert _held(store, texts) == {"text of a": 2}
    assert _held(store, texts, at=before) == {"text of a": 1, "text of b": 1}
    assert store.documents.shared(texts) == {"text of a": 2}


def test_what_was_forgotten_is_not_kept(local_lake: Warehouse) -> None:
    """A process that has read a text before it was forgotten must not write it down again afterwards."""
    store = local_lake.application("reviews")
    fill(local_lake, "ab")
    answer_all(local_lake)
    assert store.completions.answered(RELEASE_ID, document_ids=["a", "b"]).num_rows == 2
    assert "rows/answered/release-1" in _kept(store)

    _session(store).write(
        "reviews",
        lambda transaction: transaction.run(
            f"INSERT INTO {transaction.target('forgotten')} VALUES ('s', 'k', 'r', now())"
        ),
    )
    store.tallies.keep()

    assert not [name for name in _kept(store, stored=True) if name.startswith("rows")]


def _answered(store: ApplicationStore, texts: list[str], *, at: int | None = None) -> list[str]:
    looked_up = _session(store).looked_up("reviews").answers(texts, at=at)
    return [row[0] for row in _session(store).rows(f"SELECT fingerprint FROM {looked_up} ORDER BY 1")]


def _held(store: ApplicationStore, texts: list[str], *, at: int | None = None) -> dict[str, int]:
    return {text: one.count for text, one in _session(store).looked_up("reviews").holders(texts, at=at).items()}


def _append(store: ApplicationStore, key: str) -> None:
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, [completion(key, run_id=f"run of {key}")])


def _kept(store: ApplicationStore, *, stored: bool = False) -> list[str]:
    if stored:
        return [
            row[0] for row in _session(store).rows(f"SELECT name FROM {_session(store).relation('reviews', 'tallies')}")
        ]
    return [name for _, name in _session(store).counted]


def _session(store: ApplicationStore) -> Session:
    return store.tallies._session
