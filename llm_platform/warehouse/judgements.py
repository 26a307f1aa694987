"""What a judge is asked about, and `judge_agreements`: how far it agrees with people. Its verdicts are completions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from llm_platform.warehouse.schema import NEWEST_FIRST, OLDEST_FIRST, listed
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

COLUMNS = listed("judge_agreements", without=["sequence"])


class Judgements:
    """Documents for the judges of one application, and what was measured of them."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def documents(self, *, count: int, also: Sequence[str] = ()) -> pa.Table:
        """Different texts of the evaluation split in an order that has nothing to do with what they say, by key.

        Columns: document_id, fingerprint, text, attributes, and reference, which may be null for those in `also`.

        Args:
            count: How many of the evaluation split; texts of the training split are not among them.
            also: Ids of documents that are wanted besides.
        """
        documents, references = self._relation("documents"), self._relation("references")
        joined = (
            "SELECT d.document_id, d.fingerprint, d.text, d.attributes, r.answer AS reference, r.split "
            f"FROM {documents} d LEFT JOIN {references} r USING (document_id) WHERE d.status = 'sendable'"
        )
        return self._session.table(
            f"WITH known AS ({joined}), "
            "drawn AS (SELECT * FROM known WHERE split = 'evaluation' AND reference IS NOT NULL "
            "AND fingerprint NOT IN (SELECT fingerprint FROM known WHERE split = 'train') "
            "QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY document_id) = 1 "
            f"ORDER BY md5('judge:' || fingerprint) LIMIT {count:d}) "
            "SELECT DISTINCT document_id, fingerprint, text, attributes, reference FROM "
            "(SELECT * FROM drawn UNION ALL SELECT * FROM known WHERE document_id IN (SELECT unnest($also))) "
            "ORDER BY document_id",
            {"also": list(also)},
        )

    def append_agreement(self, *, judge: str, release_id: str, content: str, created_at: datetime) -> int:
        """Store a measurement; returns the snapshot id."""

        def body(transaction: Transaction) -> None:
            sequence = transaction.next_sequence("judge_agreements")
            target = transaction.target("judge_agreements")
            transaction.run(
                f'INSERT INTO {target} ({COLUMNS}, "sequence") VALUES (?, ?, ?, ?, ?)',
                [judge, release_id, content, created_at, sequence],
            )

        return self._session.write(self._application, body)[1]

    def latest_agreement(self, release_id: str) -> str | None:
        """What was measured last of exactly this release of a judge, as JSON: ours, else the upstream's."""
        for catalog in (LAKE, UPSTREAM):
            relation = self._session.relation(self._application, "judge_agreements", catalog=catalog)
            found = self._session.value(
                f"SELECT content FROM {relation} WHERE release_id = ? ORDER BY {NEWEST_FIRST} LIMIT 1", [release_id]
            )
            if found is not None:
                return str(found)
        return None

    def agreements(self) -> pa.Table:
        """All measurements, oldest first."""
        return self._session.table(
            f"SELECT {COLUMNS} FROM {self._relation('judge_agreements')} ORDER BY {OLDEST_FIRST}, judge"
        )

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)
