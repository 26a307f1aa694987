"""What nobody else has written needs no second look; what somebody has, does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llm_platform.warehouse import ledger, session
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.session import Transaction
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, completion, consumed, document, fill
from llm_platform_tests.warehouse.conftest import sqlite_location


def test_others_are_seen_and_the_owner_is_not(lake: Warehouse, location: LakeLocation) -> None:
    """One answer of another process is a change, in whatever form the lake keeps so small a one."""
    fill(lake, "abcd")
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="test") as lease, Warehouse.attach(location, threads=1) as other:
        lease.watch = completions.watch(RELEASE_ID)
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
    watch = store.completions.watch(RELEASE_ID)

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
        lease.watch = completions.watch(RELEASE_ID)
        other.application("reviews").completions.restore([completion("a")])

        stored = completions.append(lease, [completion("a"), completion("b")])

    assert stored == 1
    assert len(completions.of_release(RELEASE_ID)) == 2 + begun


def test_commits_read_what_others_have_answered_and_not_the_ledger(
    lake: Warehouse, location: LakeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four processes at a table of millions, each commit would read all that the four have stored."""
    keys = "abcdefghij"
    fill(lake, keys)
    completions = lake.application("reviews").completions
    completions.restore([completion("j")])
    searched: list[str] = []
    absent = ledger._absent

    def noted(transaction: Transaction, places: Sequence[str]) -> str | None:
        searched.extend(places)
        return absent(transaction, places)

    with completions.lease(RELEASE_ID, holder="test") as lease, Warehouse.attach(location, threads=1) as other:
        lease.watch = completions.watch(RELEASE_ID)
        for ours, theirs in [("a", "b"), ("bc", "dd"), ("def", "gh"), ("gi", "a")]:
            other.application("reviews").completions.restore([completion(key) for key in theirs])
            with monkeypatch.context() as patch:
                patch.setattr(ledger, "_absent", noted)
                completions.append(lease, [completion(key) for key in ours])

        stored = completions.of_release(RELEASE_ID)["document_id"].to_pylist()
        assert sorted(stored) == list(keys)
        assert len(searched) == 4
        assert not any("completions" in one for one in searched)


def test_a_text_that_was_sent_again_is_not_doubled(local_lake: Warehouse) -> None:
    """When the first document of a text leaves, the text is in another bucket, and is sent from there, too."""
    fill(local_lake, "ab")
    completions = local_lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="test") as lease:
        lease.watch = completions.watch(RELEASE_ID)
        completions.append(lease, [completion("a")])
        lease.watch.search_whole()

        assert completions.append(lease, [completion("a"), completion("b")]) == 1


def test_a_compaction_in_between_makes_commits_search_again(lake: Warehouse, location: LakeLocation) -> None:
    """Which answers came after the look, only the history of the lake can tell."""
    fill(lake, "abc")
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="test") as lease, Warehouse.attach(location, threads=1) as other:
        lease.watch = completions.watch(RELEASE_ID)
        other.application("reviews").completions.restore([completion("a")])
        other.compact(keep_days=0)

        assert completions.append(lease, [completion("a"), completion("b")]) == 1
        other.application("reviews").completions.restore([completion("c")])
        assert completions.append(lease, [completion("c")]) == 0


def test_files_that_are_merged_meanwhile_say_still_whose_answers_they_hold(local_lake: Warehouse) -> None:
    """A compaction puts answers of before the look and of after it into one file."""
    keys = [f"{number:04d}" for number in range(2000)]
    fill(local_lake, keys)
    completions = local_lake.application("reviews").completions
    completions.restore([completion(key) for key in keys[:500]])
    with completions.lease(RELEASE_ID, holder="test") as lease:
        lease.watch = completions.watch(RELEASE_ID)
        completions.restore([completion(key) for key in keys[500:1000]])
        completions.restore([completion(key) for key in keys[1000:1500]])
        report = local_lake.compact()

        assert report.files_after < report.files_before
        assert completions.append(lease, [completion(key) for key in keys[600:]]) == 500
        assert lease.watch.others() is not None


def test_answers_of_other_releases_do_not_count(local_lake: Warehouse) -> None:
    """The same text under another release is another question."""
    fill(local_lake, "ab")
    completions = local_lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="test") as lease:
        lease.watch = completions.watch(RELEASE_ID)
        completions.restore([completion("a", release_id="another")])

        assert completions.append(lease, [completion("a"), completion("b")]) == 2


def test_answers_that_production_gets_meanwhile_are_not_stored_in_a_branch(tmp_path: Path) -> None:
    """A branch reads them from there."""
    production, branch = sqlite_location(tmp_path, "production"), sqlite_location(tmp_path, "branch")
    with Warehouse.attach(production) as lake:
        fill(lake, "abc")
        lake.application("reviews").completions.restore([completion("a")])
        with Warehouse.attach(branch, upstream=production) as own:
            fill(own, "abc")
            completions = own.application("reviews").completions
            with completions.lease(RELEASE_ID, holder="test") as lease:
                lease.watch = completions.watch(RELEASE_ID)
                lake.application("reviews").completions.restore([completion("b")])

                assert completions.append(lease, [completion("b"), completion("c")]) == 1


def test_what_cannot_be_told_any_more_counts_as_disturbed(local_lake: Warehouse) -> None:
    """A compaction forgets what old snapshots changed."""
    fill(local_lake, "ab")
    completions = local_lake.application("reviews").completions
    watch = completions.watch(RELEASE_ID)
    completions.restore([completion("a")])

    local_lake.compact(keep_days=0)

    assert watch.is_disturbed()


def test_a_look_says_whether_documents_have_changed_since_the_one_before(local_lake: Warehouse) -> None:
    """Only then can a text that is on its way already be found again, in another bucket."""
    fill(local_lake, "ab")
    store = local_lake.application("reviews")
    with store.completions.missing_texts(RELEASE_ID) as texts:
        first = texts.look()
        store.completions.restore([completion("a")])
        second = texts.look()
        store.documents.apply(batch([]), deleted=["b"], full=False, consumed=consumed(2))
        third = texts.look()

        assert (first, second, third) == (False, False, True)
        assert texts.by_bucket() == {}
        assert not texts.look()


def test_a_look_that_does_not_fit_gets_the_memory_it_needs(
    local_lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is there to spill, not to fail."""
    monkeypatch.setattr(session, "SPARING_MIB", (1, 2))
    rows = [document(f"{number:06d}", text=f"{number} " * 200) for number in range(20_000)]
    store = local_lake.application("reviews")
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())

    with store.completions.missing_texts(RELEASE_ID) as texts:
        texts.look()

        assert sum(texts.by_bucket().values()) == 20_000
        assert sum(len(part) for part in texts.batches()) == 20_000
    assert store.completions.missing_count(RELEASE_ID) == 20_000
