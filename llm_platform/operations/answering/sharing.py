"""The documents that one process answers when several may work on one release.

Each leases some buckets, reads their documents, and leases more when it has read them; leases are given back when its
run ends. So nobody has to know how many processes there are, and the engine never waits for a bucket to be done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence

from llm_platform.records import DocumentRow
from llm_platform.records.rollout import AskedDocuments
from llm_platform.warehouse.holders import ALL_BUCKETS, Holder
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.store import ApplicationStore

LEAST_ROWS = 100
"""Fewer documents than this are not divided: to look for them costs as much as to answer some."""
LOOK_AGAIN_SECONDS = 1.0


class SharedWork:
    """Documents without an answer, of the buckets that this process could lease.

    Args:
        lease: Covers nothing yet; claims what is read.
        recover: Stores what dead processes had received; called after each claim, for their buckets may be in it.
        buckets: Only these; None means all.
        tried: Not these: this process has had them, and what is missing there it could not get.
        documents: Only these; None means all.
        prefix, side_by_side: The order of documents, as in `Completions.missing_batches`.

    Attributes:
        left: Bucket → documents that only others worked on when this process looked last.
    """

    def __init__(
        self,
        store: ApplicationStore,
        lease: Lease,
        *,
        recover: Callable[[], None],
        buckets: Collection[int] | None,
        tried: Collection[int],
        prefix: Sequence[str],
        side_by_side: int,
        documents: AskedDocuments | None = None,
    ) -> None:
        self._store, self._lease, self._recover = store, lease, recover
        self._buckets, self._tried = buckets, tried
        self._prefix, self._side_by_side = prefix, side_by_side
        self._missing = store.completions.missing_texts(lease.release_id, buckets=buckets, documents=documents)
        self._taken: tuple[int, ...] = ()
        self._read = 0
        self._expected = 0
        self.left: dict[int, int] = {}

    def __enter__(self) -> SharedWork:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._missing.__exit__(*exc_info)

    def begin(self) -> bool:
        """Lease the first buckets; False when there is nothing to do."""
        self._lease.watch = self._store.completions.watch(self._lease.release_id)
        self._taken = self._claim()
        return bool(self._taken)

    def expected(self) -> int:
        """Documents that fall to this process as things are now: read, to be read, and held by nobody."""
        return self._expected

    def batches(self) -> Iterator[list[DocumentRow]]:
        """Documents to be answered; the first buckets are leased already."""
        while self._taken:
            for batch in self._missing.batches(
                buckets=self._taken, prefix=self._prefix, side_by_side=self._side_by_side
            ):
                self._read += len(batch)
                yield batch
            self._taken = self._claim()

    def _claim(self) -> tuple[int, ...]:
        """Lease further buckets that have something missing; nothing when only others have something to do."""
        self._look()
        ours = {*self._lease.buckets, *self._tried}
        missing = {bucket: rows for bucket, rows in self._missing.by_bucket().items() if bucket not in ours}
        claim = self._lease.claim(missing, least_rows=LEAST_ROWS)
        self.left = {} if claim.buckets else missing
        if claim.buckets:
            self._expected = self._read + claim.free_rows
            self._recover()
            # Whoever had these buckets may have answered, and given them back, since the look.
            self._look()
        return claim.buckets

    def _look(self) -> None:
        """Look for what is missing, unless nobody else has changed anything since the last time."""
        watch = self._lease.watch
        if watch is not None and self._missing.is_current and not watch.is_disturbed():
            return
        if self._missing.look() and watch is not None:
            # A text whose first document has left is in another bucket now, and may be on its way already.
            watch.search_whole()


def wait_for_others(store: ApplicationStore, release_id: str, left: Collection[int]) -> None:
    """Wait until nobody holds one of these buckets; who waits must hold nothing, or two may wait for each other."""
    pause = threading.Event()
    while not _is_free(store.completions.holders(release_id), left):
        pause.wait(LOOK_AGAIN_SECONDS)


def _is_free(holders: Collection[Holder], buckets: Collection[int]) -> bool:
    held = {one.bucket for one in holders}
    return ALL_BUCKETS not in held and not held >= set(buckets)
