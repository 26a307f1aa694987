"""`completions` hold exactly one answer per key."""

from __future__ import annotations

import json

import pytest

from llm_platform.errors import ContractBroken, StorageError
from llm_platform.records import TokenUsage
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import (
    RELEASE_ID,
    answer_all,
    batch,
    completion,
    consumed,
    document,
    fill,
)


def test_missing_is_one_row_per_sendable_text(lake: Warehouse) -> None:
    """Equal texts are asked for once, under the smallest key; what cannot be sent is not asked for."""
    store = lake.application("reviews")
    rows = [
        document("b", fingerprint="f"),
        document("a", fingerprint="f"),
        document("c"),
        document("d", status="empty"),
    ]
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())

    missing = store.completions.missing(RELEASE_ID)

    assert missing.column("document_id").to_pylist() == ["a", "c"]
    assert missing.column_names == ["document_id", "fingerprint", "text", "attributes", "bucket"]
    assert store.completions.missing(RELEASE_ID, limit=1).num_rows == 1
    assert store.completions.missing_count(RELEASE_ID) == 2
    with store.completions.missing_texts(RELEASE_ID) as texts:
        texts.look()
        assert [[row.document_id for row in batch] for batch in texts.batches()] == [["a", "c"]]


@pytest.mark.parametrize("prefix", [("text",), ("contract", "text")], ids=["in-the-text", "in-an-attribute"])
def test_texts_that_begin_alike_come_in_turns(local_lake: Warehouse, prefix: tuple[str, ...]) -> None:
    """An engine finds a prefix in the slot that had it before, if no other slot gets the same one at that time."""
    store = local_lake.application("reviews")
    rows = [
        document(
            f"{contract}{number}",
            fingerprint=f"{contract}{number}",
            text=f"{contract * 300 if len(prefix) == 1 else ''}{'?' * (number + 1)}{contract}",
            attributes=json.dumps({"contract": contract}),
        )
        for contract in "abcdef"
        for number in range(4)
    ]
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())

    with store.completions.missing_texts(RELEASE_ID) as texts:
        texts.look()
        keys = [row.document_id for part in texts.batches(prefix=prefix, side_by_side=3) for row in part]

    assert sorted(keys) == sorted(row["document_id"] for row in rows)
    if prefix == ("text",):
        groups = [{key[0] for key in keys[start : start + 3]} for start in range(0, 24, 3)]
        assert all(len(group) == 3 for group in groups)
        assert len({frozenset(group) for group in groups}) == 2
        # The longest first.
        assert [{key[1] for key in keys[start : start + 3]} for start in range(0, 12, 3)] == [
            {"3"},
            {"2"},
            {"1"},
            {"0"},
        ]


def test_an_answer_is_stored_once(lake: Warehouse) -> None:
    """A repeated commit, and a repeated key inside one commit, must not double a row."""
    fill(lake, "abc")
    completions = lake.application("reviews").completions

    with completions.lease(RELEASE_ID, holder="test") as lease:
        first = completions.append(lease, [completion("a"), completion("b"), completion("a")])
        snapshot = lake.snapshot()
        again = completions.append(lease, [completion("a"), completion("b")])

    assert (first, again) == (2, 0)
    assert lake.snapshot() == snapshot
    assert completions.missing(RELEASE_ID).column("document_id").to_pylist() == ["c"]


def test_another_release_has_answers_of_its_own(local_lake: Warehouse) -> None:
    """A changed prompt asks again; the answers to the old one stay."""
    fill(local_lake, "ab")
    answer_all(local_lake)

    assert local_lake.application("reviews").completions.missing_count("release-2") == 2


def test_answers_of_another_release_are_refused(local_lake: Warehouse) -> None:
    """A lease protects one release; rows of another would be unprotected."""
    completions = local_lake.application("reviews").completions

    with (
        completions.lease(RELEASE_ID, holder="test") as lease,
        pytest.raises(ContractBroken, match="Take a lease for each release"),
    ):
        completions.append(lease, [completion("a", release_id="release-2")])


def test_every_document_with_a_text_shares_its_answer(local_lake: Warehouse) -> None:
    """Equal texts share one answer, and each document counts in the report."""
    store = local_lake.application("reviews")
    rows = [document("a", fingerprint="text of a"), document("b", fingerprint="text of a"), document("c")]
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, [completion("a")])

    answered = store.completions.answered(RELEASE_ID)

    assert answered.column("document_id").to_pylist() == ["a", "b"]
    assert answered.column("answer").to_pylist() == ["HAPPY", "HAPPY"]
    assert json.loads(answered.column("label_logprobs")[0].as_py()) == {"HAPPY": -0.1, "SAD": -2.4}


def test_counts_and_tokens_of_a_release(local_lake: Warehouse) -> None:
    """Tokens are what was paid: a reused answer cost nothing."""
    fill(local_lake, "abc")
    completions = local_lake.application("reviews").completions
    rows = [completion("a"), completion("b", answer=None), completion("c", reused=True)]

    with completions.lease(RELEASE_ID, holder="test") as lease:
        completions.append(lease, rows)

    assert completions.counts(RELEASE_ID) == {"invalid": 1, "valid": 2}
    assert completions.usage(RELEASE_ID) == TokenUsage(prompt_tokens=20, completion_tokens=4, cached_tokens=8)
    assert completions.usage("release-2") == TokenUsage()


def test_answers_to_the_same_request_are_found_across_releases(local_lake: Warehouse) -> None:
    """A release that differs only in its calibration reuses what was really sent."""
    fill(local_lake, "ab")
    answer_all(local_lake, release_id="release-1")
    completions = local_lake.application("reviews").completions
    with completions.lease("release-2", holder="test") as lease:
        completions.append(lease, [completion("a", release_id="release-2", reused=True)])

    found = completions.of_request("request-1")

    assert found.column("release_id").to_pylist() == ["release-1", "release-1"]


def test_the_data_version_is_of_the_current_documents(local_lake: Warehouse) -> None:
    """An answer to a text that nobody has any more must not make what stands on the answers stale."""
    fill(local_lake, "ab")
    answer_all(local_lake)
    completions = local_lake.application("reviews").completions
    before = completions.data_version(RELEASE_ID)

    fill(local_lake, "abc")
    answer_all(local_lake)
    with_c = completions.data_version(RELEASE_ID)
    fill(local_lake, "ab")

    assert with_c != before
    assert completions.data_version(RELEASE_ID) == before


def test_a_bucket_is_answered_by_itself(local_lake: Warehouse) -> None:
    """Buckets spread one release over several runs."""
    store = local_lake.application("reviews")
    rows = batch([document("a", bucket=3), document("b", bucket=4)])
    store.documents.apply(rows, deleted=None, full=True, consumed=consumed())

    assert store.completions.missing(RELEASE_ID, buckets=[4]).column("document_id").to_pylist() == ["b"]
    assert store.completions.missing_count(RELEASE_ID, buckets=[4]) == 1
    with store.completions.lease(RELEASE_ID, holder="test", bucket=3) as lease:
        store.completions.append(lease, [completion("a")])
    assert store.completions.missing_count(RELEASE_ID, buckets=[3]) == 0
    assert store.completions.missing_count(RELEASE_ID, buckets=[]) == 0


def test_an_error_about_a_line_does_not_quote_it(local_lake: Warehouse) -> None:
    """Answers are as sensitive as the documents they are about."""
    completions = local_lake.application("reviews").completions

    with completions.lease(RELEASE_ID, holder="test") as lease, pytest.raises(StorageError) as caught:
        completions.append_lines(lease, [b'{"release_id": "r", "fingerprint": "f", "prompt_tokens": "a secret"}'])

    assert "secret" not in str(caught.value)
