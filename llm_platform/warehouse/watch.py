"""Whether others write a table while somebody works on what it was."""

from __future__ import annotations

import threading

from llm_platform.warehouse.session import LAKE, UPSTREAM, Session


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

    def disturb(self) -> None:
        """Count it as written by others from now on."""
        with self.lock:
            self._disturbed = True

    def committed(self, snapshot: int) -> None:
        """The owner's own commit made this snapshot, with nobody else's on the application since the last question."""
        self._seen[LAKE] = snapshot
