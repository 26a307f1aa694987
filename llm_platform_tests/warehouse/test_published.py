"""`published` says what one release answers, one row per document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_platform.errors import ContractBroken
from llm_platform.records.refusals import Refusal
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import (
    RELEASE_ID,
    answer_all,
    batch,
    completion,
    consumed,
    document,
    event,
    fill,
    release,
)


def test_every_document_is_published_with_its_answer_or_the_reason(lake: Warehouse) -> None:
    """A reader joins on the document: a missing row looks like a broken pipeline, a NULL with a reason does not."""
    store = lake.application("reviews")
    rows = [document("a"), document("b", fingerprint="text of a"), document("c"), document("d", status="empty")]
    store.documents.apply(batch([*rows, document("e")]), deleted=None, full=True, consumed=consumed(7))
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(
            lease, [completion("a"), completion("c", answer=None, reason="no label in the answer")]
        )

    store.published.publish(RELEASE_ID, 1)

    table = store.published.table(1).to_pydict()
    assert table["answer"] == ["HAPPY", "HAPPY", None, None, None]
    assert table["status"] == ["valid", "valid", "invalid", "empty", "unanswered"]
    assert table["reason"] == [
        None,
        None,
        "no label in the answer",
        "it is empty",
        "no answer of this release is stored",
    ]
    assert set(table["source_snapshot"]) == {7}


def test_what_an_older_version_kept_of_a_refusal_is_not_published(local_lake: Warehouse) -> None:
    """It was filtered for what the document says, and not well enough."""
    store = local_lake.application("reviews")
    store.documents.apply(batch([document("a"), document("b")]), deleted=None, full=True, consumed=consumed(7))
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        older = completion("a", answer=None, status="rejected", reason="HTTP 400: bad value Mueller")
        newer = completion("b", answer=None, status="rejected", reason=f"HTTP 400: {Refusal.TOO_LONG}", said="Mueller")
        store.completions.append(lease, [older, newer])

    store.published.publish(RELEASE_ID, 1)

    assert store.published.table(1)["reason"].to_pylist() == ["HTTP 400", f"HTTP 400: {Refusal.TOO_LONG}"]


OF_PARTS = "1 of 3 parts have no valid answer (the first is rejected: HTTP 400"


# What is stored → what is shown of it.
REASONS = {
    "HTTP 400: bad value Mueller": "HTTP 400",
    f"HTTP 400: {Refusal.TOO_LONG} of Mueller": "HTTP 400",
    f"{OF_PARTS}: bad value Mueller)": OF_PARTS,
    f"{OF_PARTS}: {Refusal.TOO_LONG})": f"{OF_PARTS}: {Refusal.TOO_LONG})",
    **{f"HTTP 418: {phrase}": f"HTTP 418: {phrase}" for phrase in Refusal},
    f"HTTP 400: {Refusal.FILTERED}; the last 7 tokens": f"HTTP 400: {Refusal.FILTERED}; the last 7 tokens",
}


def test_a_stored_reason_is_shown_as_far_as_it_is_ours(local_lake: Warehouse) -> None:
    """Who asks without texts, for the chain of an answer or for what failed, is to read no document."""
    store = local_lake.application("reviews")
    stored = {f"{number}": reason for number, reason in enumerate(REASONS)}
    store.documents.apply(batch([document(key) for key in stored]), deleted=None, full=True, consumed=consumed(7))
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        rejected = [completion(key, answer=None, status="rejected", reason=reason) for key, reason in stored.items()]
        store.completions.append(lease, rejected)
    store.published.publish(RELEASE_ID, 1)

    chains: dict[str, Any] = {key: store.published.explain(key, 1) for key in stored}
    texts: dict[str, Any] = {key: store.published.explain(key, 1, with_texts=True) for key in stored}
    failures = {failure.document_id: failure.reason for failure in store.failures.of_release(RELEASE_ID)}

    shown = {key: REASONS[reason] for key, reason in stored.items()}
    assert {key: chain["published"]["reason"] for key, chain in chains.items()} == shown
    assert {key: chain["completion"]["reason"] for key, chain in chains.items()} == shown
    assert {key: chain["completion"]["reason"] for key, chain in texts.items()} == stored
    assert failures == shown


def test_publishing_twice_changes_nothing(local_lake: Warehouse) -> None:
    """A repeated run must not give readers new versions of equal rows."""
    fill(local_lake, "abc")
    answer_all(local_lake)
    published = local_lake.application("reviews").published
    first = published.publish(RELEASE_ID, 1)

    second = published.publish(RELEASE_ID, 1)

    assert (first.inserted, second.changed, second.unchanged) == (3, 0, 3)
    assert second.snapshot_id == first.snapshot_id == local_lake.snapshot()


def test_documents_that_left_and_new_releases_are_followed(lake: Warehouse) -> None:
    """A document deleted at the source is gone for readers too; rows of untouched documents keep their time."""
    fill(lake, "abc")
    answer_all(lake)
    published = lake.application("reviews").published
    published.publish(RELEASE_ID, 1)
    before = published.data_version(1)

    fill(lake, "ab")
    change = published.publish(RELEASE_ID, 1)
    answer_all(lake, release_id="release-2")
    switched = published.publish("release-2", 1)

    assert (change.inserted, change.updated, change.deleted, change.unchanged) == (0, 0, 1, 2)
    assert (switched.updated, switched.unchanged) == (2, 0)
    assert published.data_version(1) != before
    assert published.table(1, at_snapshot=change.snapshot_id).column("release_id").to_pylist() == [RELEASE_ID] * 2


def test_contracts_are_tables_of_their_own(local_lake: Warehouse) -> None:
    """Readers of the old contract keep their table while others move."""
    fill(local_lake, "a")
    answer_all(local_lake)
    published = local_lake.application("reviews").published

    published.publish(RELEASE_ID, 2)

    assert published.table(2).num_rows == 1
    assert published.table(1).num_rows == 0


def test_explain_joins_the_whole_chain(lake: Warehouse) -> None:
    """From a row that somebody doubts to what made it, in one call, without showing the text unasked."""
    store = lake.application("reviews")
    made = release()
    fill(lake, "ab")
    store.prompts.put(made.prompt)
    store.releases.put(made)
    answer_all(lake, release_id=made.release_id)
    store.rollout.append(event("promotion", release_id=made.release_id), expected_previous=None)
    store.published.publish(made.release_id, 1)

    chain = store.published.explain("a", 1)
    shown = store.published.explain("a", 1, with_texts=True)

    assert list(chain) == [
        "published",
        "document",
        "completion",
        "release",
        "prompt",
        "model",
        "run",
        "rollout",
        "report",
    ]
    assert chain["completion"]["fingerprint"] == chain["document"]["fingerprint"] == "text of a"
    assert chain["prompt"]["version"] == made.prompt.version
    assert chain["rollout"]["event_id"] == "promotion"
    assert "text" not in chain["document"]
    assert "content" not in chain["release"]
    assert shown["document"]["text"] == "text of a"
    assert json.loads(shown["release"]["content"])["application"] == "reviews"


def test_explaining_an_unknown_document_says_so(local_lake: Warehouse) -> None:
    """A mistyped key is the likely cause."""
    with pytest.raises(ContractBroken, match=r"has no document 'nope'.+case-sensitive"):
        local_lake.application("reviews").published.explain("nope", 1)


def test_a_document_that_was_published_without_an_answer_gets_it(local_lake: Warehouse) -> None:
    """A run that ended early publishes what there is; the next one answers the rest, and no document has changed."""
    store = local_lake.application("reviews")
    fill(local_lake, "abc")
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, [completion("a")])
    store.published.publish(RELEASE_ID, 1)
    store.documents.apply(batch([document("d")]), deleted=(), full=False, consumed=consumed(2))
    store.published.publish(RELEASE_ID, 1)
    store.tallies.keep()

    answer_all(local_lake)
    pending = store.published.pending(RELEASE_ID, 1)
    store.published.publish(RELEASE_ID, 1)

    assert pending == 3
    assert {row["status"] for row in store.published.table(1).to_pylist()} == {"valid"}
