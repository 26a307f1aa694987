"""A lake that an older version of the platform wrote."""

from __future__ import annotations

import pytest

from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, completion, fill

ADDED = ("cut_tokens", "parts")


@pytest.fixture
def older(location: LakeLocation) -> LakeLocation:
    """A lake with two answers, in a table without the columns that came later."""
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, "ab")
        answer_all(lake)
        with lake._session.cursor() as cursor:
            for column in ADDED:
                cursor.execute(f"ALTER TABLE lake.reviews.completions DROP COLUMN {column}")
    return location


def test_answers_of_an_older_version_are_read_without_writing(older: LakeLocation) -> None:
    """Production's lake is attached read-only by branches that run newer code."""
    with Warehouse.attach(older, threads=2, read_only=True) as lake:
        store, snapshot = lake.application("reviews"), lake.snapshot()

        rows = store.completions.of_release(RELEASE_ID, ["document_id", *ADDED]).to_pylist()
        then = lake.frame("reviews", "completions", at_snapshot=snapshot)

    assert rows == [{"document_id": key, "cut_tokens": None, "parts": None} for key in "ab"]
    assert then["parts"].to_pylist() == [None, None]


def test_the_first_write_adds_the_columns_and_keeps_the_rows(older: LakeLocation) -> None:
    """An upgrade of the platform must not need a step that somebody forgets."""
    with Warehouse.attach(older, threads=1) as lake, Warehouse.attach(older, threads=2) as other:
        store = lake.application("reviews")
        assert other.application("reviews").completions.counts(RELEASE_ID) == {"valid": 2}
        fill(lake, "abc")
        before = lake.snapshot()

        with store.completions.lease(RELEASE_ID, holder="test") as lease:
            store.completions.append(lease, [completion("c", cut_tokens=7, parts=2)])

        rows = store.completions.of_release(RELEASE_ID, ["document_id", *ADDED]).to_pylist()
        # One that was attached before, and knows the table as it was, goes on.
        fill(other, "abcd")
        assert answer_all(other) == 1
        then = lake.frame("reviews", "completions", at_snapshot=before)

    assert [tuple(row.values()) for row in rows] == [("a", None, None), ("b", None, None), ("c", 7, 2)]
    assert then["parts"].to_pylist() == [None, None]
