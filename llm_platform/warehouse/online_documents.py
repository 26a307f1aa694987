"""`online_documents`: what callers have sent and the source does not have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from llm_platform.records import OnlineDocument
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.bars import leave_out_forgotten
from llm_platform.warehouse.documents import ONLINE
from llm_platform.warehouse.session import Session, Transaction

SCHEMA = arrow_schema("online_documents")
COLUMNS = ", ".join(SCHEMA.names)


class OnlineDocuments:
    """Documents that callers of one application have sent."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, rows: Sequence[OnlineDocument]) -> int:
        """Store documents, unless they are there with the same columns; returns how many were new."""
        if not rows:
            return 0
        table = pa.Table.from_pylist([row.model_dump() for row in rows], schema=SCHEMA)

        def body(transaction: Transaction) -> int:
            stored = transaction.relation("online_documents")
            transaction.run(
                "CREATE OR REPLACE TEMP TABLE new AS SELECT * FROM sent s WHERE NOT EXISTS "
                f"(SELECT 1 FROM {stored} o WHERE o.document_id = s.document_id AND o.columns = s.columns) "
                "QUALIFY row_number() OVER (PARTITION BY document_id, columns ORDER BY received_at) = 1"
            )
            count = transaction.count("SELECT count(*) FROM new")
            if count:
                target = transaction.target("online_documents")
                transaction.run(f"INSERT INTO {target} ({COLUMNS}) SELECT {COLUMNS} FROM new")
            return count

        with self._session.cursor("store documents in") as cursor:
            cursor.register("given", table)
            cursor.execute("CREATE TEMP TABLE sent AS SELECT * FROM given")
            leave_out_forgotten(self._session, self._application, cursor, ("sent",))
            return self._session.write(self._application, body, cursor=cursor)[0]

    def hand_over(self) -> int:
        """Forget what the source has by now: when it leaves there, it leaves. Returns how many rows that were."""
        if not self._session.exists(self._application, "online_documents"):
            return 0

        def body(transaction: Transaction) -> int:
            theirs = f"(SELECT document_id FROM {transaction.relation('documents')} WHERE origin IS NULL)"
            among = f"document_id IN {theirs}"
            count = transaction.count(f"SELECT count(*) FROM {transaction.relation('online_documents')} WHERE {among}")
            if count:
                transaction.run(f"DELETE FROM {transaction.target('online_documents')} WHERE {among}")
            return count

        return self._session.write(self._application, body)[0]

    def newest(self, *, only_new: bool) -> list[tuple[str, dict[str, Any]]]:
        """Key → columns of each, as it was sent last, in the order of keys.

        Args:
            only_new: Those that the documents have not taken in yet.
        """
        sent = self._session.relation(self._application, "online_documents")
        documents = self._session.relation(self._application, "documents")
        untaken = f"d.document_id IS NULL OR (d.origin = '{ONLINE}' AND o.received_at > d.updated_at)"
        wanted = untaken if only_new else f"d.document_id IS NULL OR d.origin = '{ONLINE}'"
        rows = self._session.rows(
            f"SELECT o.document_id, o.columns FROM (SELECT * FROM {sent} "
            "QUALIFY row_number() OVER (PARTITION BY document_id ORDER BY received_at DESC) = 1) o "
            f"LEFT JOIN {documents} d USING (document_id) WHERE {wanted} ORDER BY 1"
        )
        return [(row[0], json.loads(row[1])) for row in rows]
