"""`models`: what endpoints said they are, held against the lock file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

NEWEST_FIRST = '"sequence" DESC NULLS LAST, observed_at DESC'
"""As in `warehouse.schema`; here the time has another name."""

COLUMNS = listed("models", without=["sequence"])


@dataclass(frozen=True)
class ModelObservation:
    """One look at the endpoint of a lock entry.

    Attributes:
        observed: What it said, as JSON.
        identity_hash: Hash of the part that decides answers.
        lock_hash: Hash of the lock entry it was held against.
        mismatches: What differs, in words; empty when `matches`.
    """

    entry: str
    observed: str
    identity_hash: str
    lock_hash: str
    matches: bool
    mismatches: str
    observed_at: datetime


class Models:
    """Observations of one application's endpoints."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def observe(
        self,
        *,
        entry: str,
        observed: str,
        identity_hash: str,
        lock_hash: str,
        matches: bool,
        mismatches: str,
        observed_at: datetime,
    ) -> int:
        """Store an observation that says something new; returns the snapshot id."""

        def body(transaction: Transaction) -> None:
            latest = transaction.run(
                f"SELECT identity_hash, lock_hash, matches FROM {transaction.relation('models')} "
                f"WHERE entry = ? ORDER BY {NEWEST_FIRST} LIMIT 1",
                [entry],
            )
            if latest == [(identity_hash, lock_hash, matches)]:
                return
            values = [entry, observed, identity_hash, lock_hash, matches, mismatches, observed_at]
            sequence = transaction.next_sequence("models")
            transaction.run(
                f'INSERT INTO {transaction.target("models")} ({COLUMNS}, "sequence") VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
                [*values, sequence],
            )

        return self._session.write(self._application, body)[1]

    def latest(self, entry: str) -> ModelObservation | None:
        """The newest observation of a lock entry."""
        found = self._session.rows(
            f"SELECT {COLUMNS} FROM {self._relation()} WHERE entry = ? ORDER BY {NEWEST_FIRST} LIMIT 1", [entry]
        )
        return ModelObservation(*found[0]) if found else None

    def table(self) -> pa.Table:
        """All observations, oldest first."""
        return self._session.table(
            f'SELECT {COLUMNS} FROM {self._relation()} ORDER BY "sequence" NULLS FIRST, observed_at, entry'
        )

    def _relation(self) -> str:
        return self._session.relation(self._application, "models")
