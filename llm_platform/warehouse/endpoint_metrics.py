"""`endpoint_metrics`: one row per endpoint and look, for all applications; in the schema `platform`."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from llm_platform.records.tables import ENDPOINT_METRICS_SCHEMA
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

SCHEMA = "platform"
LISTED = listed("endpoint_metrics")


class EndpointMetricsTable:
    """Looks at the endpoints of one namespace."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, rows: pa.Table) -> int:
        """Store looks whose (base_url, scraped_at) is missing; returns how many."""

        def body(transaction: Transaction) -> int:
            stored = transaction.relation("endpoint_metrics")
            absent = (
                f"FROM given g WHERE NOT EXISTS (SELECT 1 FROM {stored} s "
                "WHERE s.base_url = g.base_url AND s.scraped_at = g.scraped_at)"
            )
            if not transaction.count(f"SELECT count(*) {absent}"):
                return 0
            target = transaction.target("endpoint_metrics")
            return transaction.count(f"INSERT INTO {target} ({LISTED}) SELECT {LISTED} {absent}")

        with self._session.cursor("write endpoint metrics to") as cursor:
            cursor.register("given", rows.select(ENDPOINT_METRICS_SCHEMA.names).cast(ENDPOINT_METRICS_SCHEMA))
            return self._session.write(SCHEMA, body, cursor=cursor)[0]

    def since(self, entry: str, start: datetime) -> pa.Table:
        """Looks at the endpoints of a lock entry from `start` on, oldest first."""
        return self._session.table(
            f"SELECT {LISTED} FROM {self._relation()} WHERE entry = ? AND scraped_at >= ? "
            "ORDER BY scraped_at, base_url",
            [entry, start],
        )

    def latest(self) -> pa.Table:
        """The newest look at every endpoint, by entry."""
        return self._session.table(
            f"SELECT {LISTED} FROM {self._relation()} "
            "QUALIFY scraped_at = max(scraped_at) OVER (PARTITION BY entry) ORDER BY entry, base_url"
        )

    def _relation(self) -> str:
        return self._session.relation(SCHEMA, "endpoint_metrics")
