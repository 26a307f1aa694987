"""A lease keeps a second run from paying for the same answers."""

from __future__ import annotations

import os

import pytest

from llm_platform.errors import LeaseHeld
from llm_platform.warehouse.lake import Warehouse
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
