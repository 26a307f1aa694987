"""Whether others write a table while somebody works on what it was, and which texts they have answered."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from contextlib import closing, suppress

from llm_platform.errors import PlatformError, StorageError
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session

_numbers = itertools.count()


class Watch:
    """What others have written to one table of an application since this began.

    It makes a second look at a large table unnecessary: what was not written is as it was. The lake lists what each
    snapshot changed, so the question costs the same whatever the table's size. What its owner commits does not count:
    commit with `lock` held, and say so with `committed`.
    """

    def __init__(self, session: Session, application: str, table: str) -> None:
        self._session, self._application, self._table = session, application, table
        self._seen = {LAKE: session.snapshot()}
        if session.has_upstream:
            self._seen[UPSTREAM] = session.snapshot(catalog=UPSTREAM)
        self._disturbed = False
        self.lock = threading.RLock()

    def is_disturbed(self) -> bool:
        """Whether anybody else has written the table; once so, it stays so."""
        with self.lock:
            self._disturbed = self._disturbed or any(
                self._session.is_written_since(snapshot, self._application, self._table, catalog=catalog)
                for catalog, snapshot in self._seen.items()
            )
            return self._disturbed


class AnswersWatch(Watch):
    """A watch on answers that keeps which texts others have answered for one release: a commit looks among those only.

    Reading each of their commits once costs what they wrote; searching the ledger at each of ours costs what there is.
    """

    def __init__(self, session: Session, application: str, release_id: str) -> None:
        super().__init__(session, application, "completions")
        self._release_id = release_id
        # Of the process, not of a connection: a commit is made on one of its own.
        self._others = f"memory.main.others_{next(_numbers)}"
        self._begun = False
        self._lost = False

    def search_whole(self) -> None:
        """From now on the ledger has to be searched: the owner may have sent a text again that it has answered."""
        with self.lock:
            self._disturbed = self._lost = True

    def others(self) -> str | None:
        """Name of a table of `text_hash`, of the texts that others have answered; None where that cannot be told.

        Call it with `lock` and the application's write lock held, so that nobody adds to it before the commit.
        """
        try:
            for catalog, seen in () if self._lost else self._seen.items():
                now = self._session.snapshot(catalog=catalog)
                self._lost = self._lost or not self._session.has_snapshot(seen, catalog=catalog)
                self._read(catalog, seen, now)
                self._seen[catalog] = now
        except StorageError:
            self._lost = True  # a compaction has forgotten it meanwhile
        return None if self._lost else self._others

    def answered_by_others(self, fingerprints: Sequence[str]) -> set[str]:
        """Those of these texts that others have answered, as far as can be told."""
        with self.lock:
            others = self.others() if self.is_disturbed() else None
            if others is None:
                return set()
            found = self._session.rows(
                "SELECT text FROM (SELECT unnest($texts::VARCHAR[]) AS text) "
                f"WHERE hash(text) IN (SELECT text_hash FROM {others})",
                {"texts": list(fingerprints)},
            )
        return {row[0] for row in found}

    def committed(self, snapshot: int) -> None:
        """The owner's own commit made this snapshot, with nobody else's on the application since the last question."""
        self._seen[LAKE] = snapshot

    def close(self) -> None:
        """Forget what was read. Never raises: a connection that is gone has forgotten it."""
        if self._begun:
            with suppress(PlatformError):
                self._run(f"DROP TABLE IF EXISTS {self._others}")

    def _read(self, catalog: str, seen: int, now: int) -> None:
        if not self._begun:
            self._run(f"CREATE TABLE {self._others} (text_hash UBIGINT)")
            self._begun = True
        if now > seen and self._session.exists(self._application, self._table, catalog=catalog):
            new = self._session.insertions(self._application, self._table, after=seen, until=now, catalog=catalog)
            ours = f"release_id = {literal(self._release_id)}"
            self._run(f"INSERT INTO {self._others} SELECT hash(fingerprint) FROM {new} WHERE {ours}")

    def _run(self, sql: str) -> None:
        with self._session.errors("read what others have answered in"), closing(self._session.open()) as cursor:
            cursor.execute(sql)
