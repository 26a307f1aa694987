"""`notices`: that somebody says that a source has changed, by which way, and when. Old ones go with the next."""

from __future__ import annotations

from datetime import datetime, timedelta

from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

LISTED = listed("notices")
KEPT = timedelta(days=7)
"""For so long: what they asked for was done by then, or is told by the source itself."""


class Notices:
    """Notices of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, way: str, *, by: str, at: datetime) -> None:
        """Write down one.

        Args:
            way: How it came: `command` or `webhook`.
        """

        def body(transaction: Transaction) -> None:
            target = transaction.target("notices")
            sequence = transaction.next_sequence("notices")
            transaction.run(f'DELETE FROM {target} WHERE "at" < ?', [at - KEPT])
            transaction.run(f"INSERT INTO {target} ({LISTED}) VALUES (?, ?, ?, ?)", [at, by, way, sequence])

        self._session.write(self._application, body)

    def rows(self) -> list[tuple[str, str]]:
        """(by whom, which way) of each, oldest first."""
        relation = self._session.relation(self._application, "notices")
        return [(row[0], row[1]) for row in self._session.rows(f'SELECT "by", way FROM {relation} ORDER BY "sequence"')]

    def newest(self) -> int:
        """The number of the last one; 0 where there is none."""
        relation = self._session.relation(self._application, "notices")
        return int(self._session.value(f'SELECT coalesce(max("sequence"), 0) FROM {relation}') or 0)
