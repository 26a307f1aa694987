"""Which commits to a lake are this process's own: who follows what others commit need not look at the lake for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llm_platform.warehouse.coordination import Coordinator

MOST_KEPT = 256
"""Who follows looks at its mark every second; a process commits a few times in that."""


@dataclass
class OwnCommit:
    """One commit.

    Attributes:
        answers_of: Releases whose answers it stores; None where that is not known.
    """

    answers_of: frozenset[str] | None = None


class OwnCommits:
    """A process's own commits to one lake, each from one mark of its coordinator to the next.

    Where a mark costs a question to a server, nothing is kept, and whoever follows has to look.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._next: OrderedDict[object, tuple[object, frozenset[str] | None]] = OrderedDict()
        self._begun_at: object = None

    @contextmanager
    def one(self) -> Iterator[OwnCommit]:
        """A commit, for as long as its write lock is held: nobody else commits meanwhile."""
        commit = OwnCommit()
        if not self._coordinator.mark_is_free:
            yield commit
            return
        before = self._begun_at = self._coordinator.mark()
        try:
            yield commit
        finally:
            after = self._coordinator.mark()
            if after != before:
                self._next[before] = after, commit.answers_of
            if len(self._next) > MOST_KEPT:
                self._next.popitem(last=False)
            self._begun_at = None

    def later(self, mark: object, release_id: str) -> object:
        """The mark after those commits that followed on `mark` and stored no answers of a release."""
        for _ in range(MOST_KEPT):
            after, answers_of = self._next.get(mark, (mark, None))
            if answers_of is None or release_id in answers_of:
                break
            mark = after
        return mark

    def is_newest(self, mark: object) -> bool:
        """Whether nothing was committed since `mark`, but for what this process commits at the moment."""
        return (
            self._coordinator.mark_is_free and mark is not None and mark in (self._begun_at, self._coordinator.mark())
        )
