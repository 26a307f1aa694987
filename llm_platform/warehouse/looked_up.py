"""Texts that this process has looked up: what answers them, and which documents have them.

A text is known by a hash, which no order of a table helps to find: each look at a few of them is a pass over all. The
steps of a run ask about the same ones, those of the documents that have changed, so a pass is made once a process.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from llm_platform.warehouse.engine import one_of

if TYPE_CHECKING:
    from llm_platform.warehouse.session import Session

MOST_TEXTS = 5_000
MOST_HOLDERS = 1_000
"""Documents of one text whose keys are told."""
_numbers = count()


class Holders(NamedTuple):
    """Sendable documents of one text: how many, and the first of their keys."""

    count: int
    keys: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all keys are told."""
        return self.count == len(self.keys)


class LookedUp:
    """Of one application's tables in this lake; an upstream's are not looked at."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application
        self._lock = threading.RLock()
        self._table: str | None = None
        self._answered: set[str] = set()
        self._answers_at = self._holders_at = -1
        self._holders: dict[str, Holders] = {}

    def answers(self, fingerprints: Collection[str], *, at: int | None = None) -> str:
        """SQL to read the answers of all releases to these texts from, with all columns; for one statement.

        Args:
            fingerprints: Of the texts.
            at: As the answers were at this snapshot of the lake; None means the newest.
        """
        session, wanted = self._session, sorted(set(fingerprints))
        among = one_of("fingerprint", wanted)
        with self._lock:
            now = session.snapshot() if at is None else at
            is_past = self._answers_at > now and session.is_written_since(now, self._application, "completions")
            if is_past or len(wanted) > MOST_TEXTS:
                return f"(SELECT * FROM {self._then('completions', now)} WHERE {among})"
            if self._answers_at < now and not self._is_moved_on(now):
                self._begin()
            if absent := sorted(set(wanted) - self._answered):
                if len(self._answered) + len(absent) > MOST_TEXTS:
                    self._begin()
                    absent = wanted
                self._read(self._then("completions", now), absent)
                self._answered.update(absent)
            self._answers_at = max(now, self._answers_at)
            return f"(SELECT * FROM {self._table or self._then('completions', now)} WHERE {among})"

    def holders(self, fingerprints: Iterable[str], *, at: int | None = None) -> dict[str, Holders]:
        """Text → sendable documents that have it, of these texts; one that nobody has is left out. As `answers`."""
        session, wanted = self._session, set(fingerprints)
        with self._lock:
            now = session.snapshot() if at is None else at
            if self._holders_at > now and session.is_written_since(now, self._application, "documents"):
                return self._look(sorted(wanted), now)
            if self._holders_at < now and self._is_changed_since(self._holders_at):
                self._holders = {}
            if absent := sorted(wanted - self._holders.keys()):
                if len(self._holders) + len(absent) > MOST_TEXTS:
                    self._holders, absent = {}, sorted(wanted)
                self._holders |= dict.fromkeys(absent, Holders(0, ())) | self._look(absent, now)
            self._holders_at = max(now, self._holders_at)
            return {text: self._holders[text] for text in wanted if self._holders[text].count}

    def _is_changed_since(self, snapshot: int) -> bool:
        return snapshot < 0 or self._session.is_written_since(snapshot, self._application, "documents")

    def _then(self, table: str, at: int) -> str:
        # A table at a version cannot be given another name.
        return f"(SELECT * FROM {self._session.relation(self._application, table, at_snapshot=at)})"

    def _look(self, fingerprints: Collection[str], at: int) -> dict[str, Holders]:
        rows = self._session.rows(
            f"SELECT fingerprint, count(*), min(document_id, {MOST_HOLDERS:d}) FROM {self._then('documents', at)} "
            f"WHERE status = 'sendable' AND {one_of('fingerprint', fingerprints)} GROUP BY 1"
        )
        return {text: Holders(int(number), tuple(keys)) for text, number, keys in rows}

    def _begin(self) -> None:
        self._table, self._answered = None, set()

    def _is_moved_on(self, at: int) -> bool:
        """Whether what was read is what it is at a snapshot: answers that were stored since are put in."""
        session, since = self._session, self._answers_at
        if since < 0 or self._table is None or not session.is_written_since(since, self._application, "completions"):
            return True
        kinds = session.kinds_of_change(since, self._application, "completions")
        if kinds is None or kinds - {"insert"}:
            return False
        if kinds:
            self._read(
                session.insertions(self._application, "completions", after=since, until=at), sorted(self._answered)
            )
        return True

    def _read(self, relation: str, fingerprints: Collection[str]) -> None:
        """Put answers to these texts into a table of this process, which takes the place of the one of before."""
        among = one_of("fingerprint", fingerprints)
        # Other columns of an answer are read where its document's key says that it may be.
        rows = self._session.rows(f"SELECT DISTINCT document_id FROM {relation} WHERE {among}")
        keys = [row[0] for row in rows if row[0] is not None and "\0" not in row[0]]
        there = one_of("document_id", keys) if len(keys) == len(rows) else "true"
        found = f"SELECT * FROM {relation} WHERE {among} AND {there}"
        known = "" if self._table is None else f"SELECT * FROM {self._table} UNION ALL BY NAME "
        before, name = self._table, f"memory.main.looked_up_{next(_numbers)}"
        with self._session.cursor("look texts up in") as cursor:
            cursor.execute(f"CREATE TABLE {name} AS {known}{found}")
            self._table = name
            if before is not None:
                cursor.execute(f"DROP TABLE {before}")
