"""Rows whose time is over: how many there are in each table, and taking them out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from llm_platform.warehouse.session import Session, Transaction
from llm_platform.warehouse.tallies import ROWS

AGES = {
    "completions": "created_at",
    "retried_completions": "retried_at",
    "trials": "at",
    "reads": "at",
    "calls": "started_at",
    "endpoint_metrics": "scraped_at",
}
"""Table → column that says how old a row is."""

OF_DEPLOYMENT = ("calls", "endpoint_metrics")
"""Tables that belong to no application."""


class OldRows:
    """Old rows of one application, or with `PLATFORM` those that belong to none."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def old_documents(self, days: float, *, now: datetime) -> list[str]:
        """Keys of documents that have not changed for so long, in order."""
        relation = self._session.relation(self._application, "documents")
        before = now - timedelta(days=days)
        rows = self._session.rows(
            f"SELECT document_id FROM {relation} WHERE updated_at < ? ORDER BY document_id", [before]
        )
        return [row[0] for row in rows]

    def due(self, days: Mapping[str, float], *, now: datetime) -> dict[str, int]:
        """Table → rows that are older than it keeps any."""
        return {
            table: int(self._session.value(f"SELECT count(*) FROM {self._relation(table)} t WHERE {where}"))
            for table, where in self._conditions(days, now).items()
        }

    def remove(self, days: Mapping[str, float], *, now: datetime) -> dict[str, int]:
        """Take them out, in one transaction; how many went from each table."""
        conditions = self._conditions(days, now)

        def body(transaction: Transaction) -> dict[str, int]:
            removed = {}
            for table, where in conditions.items():
                count = transaction.count(f"SELECT count(*) FROM {transaction.relation(table)} t WHERE {where}")
                if count and table == "completions":
                    self._remove_what_rests_on(transaction, where)
                if count:
                    transaction.run(f"DELETE FROM {transaction.target(table)} t WHERE {where}")
                if count and table == "completions":
                    # What is kept of answers to documents whose text has changed since is read anew by the next run.
                    kept = f"starts_with(name, '{ROWS}/')"
                    if transaction.count(f"SELECT count(*) FROM {transaction.relation('tallies')} WHERE {kept}"):
                        transaction.run(f"DELETE FROM {transaction.target('tallies')} WHERE {kept}")
                removed[table] = count
            return removed

        return self._session.write(self._application, body)[0] if conditions else {}

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)

    def _conditions(self, days: Mapping[str, float], now: datetime) -> dict[str, str]:
        found = {}
        for table, column in AGES.items():
            if table not in days or not self._session.exists(self._application, table):
                continue
            before = (now - timedelta(days=days[table])).isoformat()
            found[table] = f"coalesce(t.\"{column}\" < TIMESTAMPTZ '{before}', false)"
        if "completions" in found:
            # An answer to a document that there is would only be asked, and paid, again.
            living = f"SELECT fingerprint FROM {self._relation('documents')}"
            parts = f"SELECT of_fingerprint FROM {self._relation('made_of')} WHERE fingerprint IN ({living})"
            found["completions"] += f" AND t.fingerprint NOT IN ({living}) AND t.fingerprint NOT IN ({parts})"
        return found

    def _remove_what_rests_on(self, transaction: Transaction, where: str) -> None:
        keys = f"SELECT t.fingerprint FROM {self._relation('completions')} t WHERE {where}"
        for table in ("scores", "made_of"):
            if self._session.exists(self._application, table):
                transaction.run(f"DELETE FROM {transaction.target(table)} WHERE fingerprint IN ({keys})")
