"""Which texts one release has answered: eight bytes a text in memory, kept up with what anybody commits."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session

_MOST_RECENT = 50_000
"""So many numbers beside the sorted ones, before they are sorted in."""
_DIGITS = 16


class AnsweredTexts:
    """The texts that a release has answered, here and upstream.

    It may name a text that has no answer, one in 10^19 and where answers were taken back; it names every text that has
    one, as of the last `look`. Whoever answers texts one by one asks it before each, where a bulk run looks through the
    ledger once.
    """

    def __init__(self, session: Session, application: str, release_id: str) -> None:
        self._session, self._application, self._release_id = session, application, release_id
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._recent: set[int] = set()
        self._seen: dict[str, int] = {}
        self._mark: object = None
        self._is_committing = False
        self._looking = threading.Lock()

    def __contains__(self, fingerprint: str) -> bool:
        number = _number(fingerprint)
        if number in self._recent:
            return True
        numbers = self._sorted
        place = int(np.searchsorted(numbers, np.uint64(number)))
        return place < len(numbers) and int(numbers[place]) == number

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    @property
    def is_current(self) -> bool:
        """Whether nobody else has committed anything since the last look, where that can be told for nothing."""
        if self._is_committing:
            return True
        commits = self._session.own_commits
        self._mark = commits.later(self._mark, self._release_id)
        return commits.is_newest(self._mark)

    def add(self, fingerprints: Collection[str]) -> None:
        """Texts that its owner has answered."""
        self._recent.update(map(_number, fingerprints))

    def look(self) -> None:
        """Take in what has been committed since the last look; all there is the first time.

        Raises:
            StorageError: the lake cannot be read.
        """
        with self._looking:
            # Before what is read: a commit in between makes the next question a look.
            mark = self._session.coordinator.mark()
            if (self.is_current or mark == self._mark) and not self._session.has_upstream:
                return
            for catalog in [LAKE, UPSTREAM] if self._session.has_upstream else [LAKE]:
                self._look_at(catalog)
            self._mark = mark
            if len(self._recent) > _MOST_RECENT:
                recent = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
                self._sorted = np.union1d(self._sorted, recent)
                # What was added meanwhile, in another thread, stays.
                self._recent -= set(map(int, recent))

    @contextmanager
    def committing(self) -> Iterator[None]:
        """A commit of the owner's, under the application's write lock: what it changes is known already."""
        undisturbed = self.is_current or self._mark == self._session.coordinator.mark()
        self._is_committing = undisturbed
        try:
            yield
        finally:
            if undisturbed:
                self._mark = self._session.coordinator.mark()
            self._is_committing = False

    def _look_at(self, catalog: str) -> None:
        now = self._session.snapshot(catalog=catalog)
        seen = self._seen.get(catalog)
        if seen == now:
            return
        known = seen is not None and self._session.has_snapshot(seen, catalog=catalog)
        if known and not self._session.is_written_since(seen or 0, self._application, "completions", catalog=catalog):
            self._seen[catalog] = now
            return
        if self._session.exists(self._application, "completions", catalog=catalog):
            try:
                found = self._numbers(catalog, seen if known else None, now)
            except StorageError:
                if not known:
                    raise
                found = self._numbers(catalog, None, now)  # a compaction has forgotten the snapshot meanwhile
            if len(found) > _MOST_RECENT:
                self._sorted = np.union1d(self._sorted, found)
            else:
                self._recent.update(map(int, found))
        self._seen[catalog] = now

    def _numbers(self, catalog: str, after: int | None, until: int) -> npt.NDArray[np.uint64]:
        rows = self._session.relation(self._application, "completions", catalog=catalog)
        if after is not None:
            rows = self._session.insertions(self._application, "completions", after=after, until=until, catalog=catalog)
        table = self._session.table(
            f"SELECT ('0x' || left(md5(fingerprint), {_DIGITS}))::UBIGINT AS number FROM {rows} "
            f"WHERE release_id = {literal(self._release_id)}"
        )
        return np.asarray(table["number"].to_numpy(), dtype=np.uint64)


def _number(fingerprint: str) -> int:
    return int(hashlib.md5(fingerprint.encode(), usedforsecurity=False).hexdigest()[:_DIGITS], 16)


class OnlineLease(Lease):
    """A lease of whoever answers texts one by one: it covers no bucket, and stands in nobody's way."""

    answered: AnsweredTexts

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold it for the length of a commit."""
        with super().guard(), self.answered.committing():
            yield
