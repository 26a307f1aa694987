"""What nobody else has written needs no second look; what somebody has, does."""

from __future__ import annotations

import pytest

from llm_platform.warehouse import session
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, completion, consumed, document, fill


def test_others_are_seen_and_the_owner_is_not(lake: Warehouse, location: LakeLocation) -> None:
    """One answer of another process is a change, in whatever form the lake keeps so small a one."""
    fill(lake, "abcd")
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="test") as lease, Warehouse.attach(location, threads=1) as other:
        lease.watch = completions.watch()
        completions.append(lease, [completion("a")])
        lake.application("others").completions.restore([completion("x")])
        alone = lease.watch.is_disturbed()
        other.application("reviews").completions.restore([completion("b")])

        assert not alone
        assert lease.watch.is_disturbed()


def test_another_table_is_another_matter(local_lake: Warehouse) -> None:
    """Runs, alerts and metrics are written all the time."""
    fill(local_lake, "ab")
    store = local_lake.application("reviews")
    watch = store.completions.watch()

    store.documents.apply(batch([document("c")]), deleted=(), full=False, consumed=consumed(2))

    assert not watch.is_disturbed()


@pytest.mark.parametrize("begun", [False, True], ids=["no-answers-yet", "with-answers"])
def test_an_answer_that_somebody_stores_after_the_look_is_not_doubled(
    lake: Warehouse, location: LakeLocation, begun: bool
) -> None:
    """A process on another host stores the journal of a dead one while a run has asked for the same texts again."""
    fill(lake, "abc")
    completions = lake.application("reviews").completions
    if begun:
        completions.restore([completion("c")])
    with completions.lease(RELEASE_ID, holder="test") as lease, Warehouse.attach(location, threads=1) as other:
        lease.watch = completions.watch()
        other.application("reviews").completions.restore([completion("a")])

        stored = completions.append(lease, [completion("a"), completion("b")])

    assert stored == 1
    assert len(completions.of_release(RELEASE_ID)) == 2 + begun


def test_what_cannot_be_told_any_more_counts_as_disturbed(local_lake: Warehouse) -> None:
    """A compaction forgets what old snapshots changed."""
    fill(local_lake, "ab")
    completions = local_lake.application("reviews").completions
    watch = completions.watch()
    completions.restore([completion("a")])

    local_lake.compact(keep_days=0)

    assert watch.is_disturbed()


def test_a_look_that_does_not_fit_gets_the_memory_it_needs(
    local_lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is there to spill, not to fail."""
    monkeypatch.setattr(session, "SPARING_MIB", 1)
    rows = [document(f"{number:06d}", text=f"{number} " * 200) for number in range(20_000)]
    store = local_lake.application("reviews")
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())

    with store.completions.missing_texts(RELEASE_ID) as texts:
        texts.look()

        assert sum(texts.by_bucket().values()) == 20_000
        assert sum(len(part) for part in texts.batches()) == 20_000
    assert store.completions.missing_count(RELEASE_ID) == 20_000
