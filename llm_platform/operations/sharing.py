"""The documents that one process answers when several may work on one release.

Each leases some buckets, reads their documents, and leases more when it has read them; a lease is given back when its
process ends. So nobody has to know how many processes there are, and the engine never waits for a bucket to be done.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator

from llm_platform.records import DocumentRow
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.store import ApplicationStore

BATCH_ROWS = 2_000
LEAST_ROWS = 100
"""Fewer documents than this are not divided: to look for them costs as much as to answer some."""
LOOK_AGAIN_SECONDS = 1.0


class SharedWork:
    """Documents without an answer, of the buckets that this process could lease.

    Args:
        lease: Covers nothing yet; claims what is read.
        recover: Stores what dead processes had received; called after each claim, for their buckets may be in it.
        buckets: Only these; None means all.
        waits: Whether to wait for others at the end, and take over what they leave; else the work ends there.

    Attributes:
        total: Documents that fall to this process as things are now: read, to be read, and held by nobody.
        left: Documents that only others worked on when this process looked last.
    """

    def __init__(
        self,
        store: ApplicationStore,
        lease: Lease,
        *,
        recover: Callable[[], None],
        buckets: Collection[int] | None,
        waits: bool,
    ) -> None:
        self._store, self._lease, self._recover = store, lease, recover
        self._buckets, self._waits = buckets, waits
        self._taken: tuple[int, ...] = ()
        self._ended = threading.Event()
        self._read = 0
        self.total = 0
        self.left = 0

    def __enter__(self) -> SharedWork:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Wait no longer; called in any thread."""
        self._ended.set()

    def begin(self) -> bool:
        """Lease the first buckets; False when there is nothing to do."""
        self._taken = self._claim()
        return bool(self._taken)

    def batches(self) -> Iterator[list[DocumentRow]]:
        """Documents to be answered; the first buckets are leased already."""
        release_id = self._lease.release_id
        while self._taken:
            for batch in self._store.completions.missing_batches(release_id, BATCH_ROWS, buckets=self._taken):
                self._read += batch.num_rows
                # Column by column, and validated: `model_construct` is Python and takes three times as long.
                columns = (
                    batch.column(name).to_pylist() for name in ("document_id", "fingerprint", "text", "attributes")
                )
                yield [
                    DocumentRow(
                        document_id=document_id,
                        fingerprint=fingerprint,
                        text=text,
                        attributes=json.loads(attributes) if attributes else {},
                    )
                    for document_id, fingerprint, text, attributes in zip(*columns, strict=True)
                ]
            self._taken = self._claim()

    def _claim(self) -> tuple[int, ...]:
        """Lease further buckets that have something missing."""
        held = set(self._lease.buckets)
        found = self._store.completions.missing_by_bucket(self._lease.release_id, buckets=self._buckets)
        missing = {bucket: rows for bucket, rows in found.items() if bucket not in held}
        while missing:
            claim = self._lease.claim(missing, least_rows=LEAST_ROWS)
            if claim.buckets:
                self.total = self._read + claim.free_rows
                self._recover()
                return claim.buckets
            self.left = sum(missing.values())
            if not self._waits or self._ended.wait(LOOK_AGAIN_SECONDS):
                return ()
        self.left = 0
        return ()
