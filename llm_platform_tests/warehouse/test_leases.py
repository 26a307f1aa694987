"""A lease keeps a second run from paying for the same answers."""

from __future__ import annotations

import os

import pytest

from llm_platform.errors import LeaseHeld
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.leases import Lease
from llm_platform_tests.warehouse.builders import RELEASE_ID, completion, fill


def test_a_held_lease_names_its_holder(lake: Warehouse) -> None:
    """Who is told to wait must know for whom."""
    completions = lake.application("reviews").completions

    with (
        completions.lease(RELEASE_ID, holder="run 17"),
        pytest.raises(LeaseHeld, match=rf"'run 17' \(process {os.getpid()} on .+\) since 2"),
        completions.lease(RELEASE_ID, holder="run 18"),
    ):
        pass


def test_a_lease_is_free_after_its_block(lake: Warehouse) -> None:
    """The next run must not wait for an expiry, and its token must be larger."""
    completions = lake.application("reviews").completions
    with completions.lease(RELEASE_ID, holder="first") as first:
        pass

    with completions.lease(RELEASE_ID, holder="second") as second:
        assert second.token > first.token


def test_releases_and_applications_do_not_block_each_other(local_lake: Warehouse) -> None:
    """A challenger is answered while the champion is."""
    completions = local_lake.application("reviews").completions

    with (
        completions.lease(RELEASE_ID, holder="a"),
        completions.lease("release-2", holder="b"),
        local_lake.application("others").completions.lease(RELEASE_ID, holder="c"),
    ):
        pass


@pytest.mark.parametrize(
    ("held", "wanted", "refused"),
    [
        pytest.param(None, 1, True, id="all-covers-one"),
        pytest.param(1, None, True, id="one-is-part-of-all"),
        pytest.param(1, 1, True, id="same-bucket"),
        pytest.param(1, 2, False, id="other-bucket"),
    ],
)
def test_buckets_overlap_with_all(lake: Warehouse, held: int | None, wanted: int | None, refused: bool) -> None:
    """A run of everything and a run of one bucket would pay twice for that bucket."""
    completions = lake.application("reviews").completions
    second = completions.lease(RELEASE_ID, holder="second", bucket=wanted)

    with completions.lease(RELEASE_ID, holder="first", bucket=held):
        if refused:
            with pytest.raises(LeaseHeld):
                second.acquire()
        else:
            second.acquire()


@pytest.mark.parametrize("wanted", [pytest.param(None, id="all"), pytest.param(1, id="same-bucket")])
def test_a_commit_after_a_takeover_is_refused(lake: Warehouse, wanted: int | None) -> None:
    """A holder that slept past its expiry does not know it: the fencing token stops its commit."""
    fill(lake, "ab")
    completions = lake.application("reviews").completions
    slept = completions.lease(RELEASE_ID, holder="slept", ttl_seconds=0.0, bucket=1)
    slept.acquire()
    taker = completions.lease(RELEASE_ID, holder="taker", bucket=wanted)
    taker.acquire()

    with pytest.raises(LeaseHeld, match="expired and was taken over"):
        completions.append(slept, [completion("a")])

    assert slept.lost
    assert completions.append(taker, [completion("a")]) == 1


def test_an_expired_lease_that_nobody_took_still_commits(lake: Warehouse) -> None:
    """Expiry alone endangers nobody; answers that were paid for are stored."""
    fill(lake, "ab")
    completions = lake.application("reviews").completions
    lease = completions.lease(RELEASE_ID, holder="slow", ttl_seconds=0.0)
    lease.acquire()

    assert completions.append(lease, [completion("a")]) == 1


def test_renewal_moves_the_expiry_and_notices_a_loss(lake: Warehouse) -> None:
    """A long run keeps its lease, and one that has lost it stops sending."""
    completions = lake.application("reviews").completions
    lease = completions.lease(RELEASE_ID, holder="first", ttl_seconds=0.0)
    lease.acquire()

    assert lease.renew()
    completions.lease(RELEASE_ID, holder="second").acquire()

    assert not lease.renew()
    assert lease.lost


def test_giving_back_a_lost_lease_leaves_the_new_holder_alone(lake: Warehouse) -> None:
    """The loser's cleanup must not open the door to a third run."""
    completions = lake.application("reviews").completions
    lost = completions.lease(RELEASE_ID, holder="first", ttl_seconds=0.0)
    lost.acquire()
    completions.lease(RELEASE_ID, holder="second").acquire()

    lost.release()

    with pytest.raises(LeaseHeld, match="'second'"):
        completions.lease(RELEASE_ID, holder="third").acquire()


def shared(lake: Warehouse, holder: str) -> Lease:
    return lake.application("reviews").completions.shared_lease(RELEASE_ID, holder=holder)


@pytest.mark.parametrize(
    ("missing", "least_rows", "taken"),
    [
        pytest.param({0: 10, 1: 10, 2: 10, 3: 10}, 1, (0, 1), id="half"),
        pytest.param({0: 5, 1: 40, 2: 5}, 1, (0, 1), id="at-least-half-of-the-rows"),
        pytest.param({0: 10, 1: 10, 2: 10}, 25, (0, 1, 2), id="few-rows-are-not-divided"),
        pytest.param({7: 1}, 1, (7,), id="one-bucket"),
        pytest.param({}, 1, (), id="nothing"),
    ],
)
def test_a_claim_leaves_half_for_whoever_joins(
    local_lake: Warehouse, missing: dict[int, int], least_rows: int, taken: tuple[int, ...]
) -> None:
    """A process cannot know how many come after it; whoever comes finds half of what was left."""
    with shared(local_lake, "first") as lease:
        assert lease.claim(missing, least_rows=least_rows).buckets == taken


def test_claims_of_several_holders_never_overlap(lake: Warehouse) -> None:
    """Each takes from what the others have left, until all is taken; what one gives back is free again."""
    missing = dict.fromkeys(range(8), 10)
    with shared(lake, "second") as second:
        with shared(lake, "first") as first:
            turns = [lease.claim(missing, least_rows=1).buckets for lease in (first, second, first, second, first)]
            free_rows = second.claim({**missing, 9: 5}, least_rows=1).free_rows
        given_back = second.claim(dict.fromkeys(range(4), 10), least_rows=1).buckets

    assert turns == [(0, 1, 2, 3), (4, 5), (6,), (7,), ()]
    assert free_rows == 5
    assert given_back == (0, 1)


def test_a_claim_passes_by_whoever_holds_everything(lake: Warehouse) -> None:
    """A trial that answers for the same release has it to itself, and nobody may begin one beside a shared run."""
    completions = lake.application("reviews").completions

    with shared(lake, "run") as lease:
        with completions.lease(RELEASE_ID, holder="trial"):
            assert lease.claim({0: 10}, least_rows=1).buckets == ()
        assert lease.claim({0: 10}, least_rows=1).buckets == (0,)
        with pytest.raises(LeaseHeld, match="'run'"):
            completions.lease(RELEASE_ID, holder="trial").acquire()


def test_one_commit_is_guarded_by_all_claims(lake: Warehouse) -> None:
    """Rows of several buckets are stored at once; if one bucket was taken over meanwhile, none of them is."""
    fill(lake, "ab")
    completions = lake.application("reviews").completions
    slept = completions.shared_lease(RELEASE_ID, holder="slept", ttl_seconds=0.0)
    slept.claim({0: 1, 1: 1}, least_rows=2)
    assert completions.append(slept, [completion("a")]) == 1

    with shared(lake, "taker") as taker:
        assert taker.claim({1: 1}, least_rows=1).buckets == (1,)
        with pytest.raises(LeaseHeld, match="taken over by 'taker'"):
            completions.append(slept, [completion("b")])
        assert slept.lost
        assert not slept.renew()
        assert [(one.bucket, one.holder) for one in completions.holders(RELEASE_ID)] == [(1, "taker")]
        assert taker.renew()
        assert completions.append(taker, [completion("b")]) == 1


def test_nothing_is_claimed_after_the_end(local_lake: Warehouse) -> None:
    """A thread that reads ahead may ask once more when the run has ended: nobody would give that back."""
    with shared(local_lake, "ended") as lease:
        pass

    assert lease.claim({0: 1}, least_rows=1).buckets == ()
