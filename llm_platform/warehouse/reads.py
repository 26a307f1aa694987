"""`reads`: who looked at texts, by which way of the platform's, and when. Rows are only ever appended."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa

from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

LISTED = listed("reads")


class Reads:
    """Looks at texts of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, way: str, *, by: str, rows: int, at: datetime, document_id: str | None = None) -> None:
        """Write down one look, before anything is shown.

        Args:
            way: What was used, such as `explain --texts`.
            rows: How many rows were read.
            document_id: Of one document; kept as a hash that only the deployment's key can make.
        """
        subject = self.subject(document_id) if document_id is not None else None

        def body(transaction: Transaction) -> None:
            transaction.run(
                f"INSERT INTO {transaction.target('reads')} ({LISTED}) VALUES (?, ?, ?, ?, ?)",
                [at, by, way, rows, subject],
            )

        self._session.write(self._application, body)

    def subject(self, document_id: str) -> str | None:
        """How a document is named here; None where there is no key."""
        if self._session.signing_key is None:
            return None
        # Loads cryptography, which only looks at texts need.
        from llm_platform.signing.keys import signing_key

        return signing_key(Path(self._session.signing_key), make=True).keyed_hash(self._application, document_id)

    def table(self, *, document_id: str | None = None) -> pa.Table:
        """All looks, or those at one document, oldest first."""
        relation = self._session.relation(self._application, "reads")
        where = "true" if document_id is None else "subject = $subject"
        given = {} if document_id is None else {"subject": self.subject(document_id) or ""}
        return self._session.table(f'SELECT {LISTED} FROM {relation} WHERE {where} ORDER BY "at"', given)
