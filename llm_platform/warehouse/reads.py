"""`reads`: who looked at texts, by which way of the platform's, and when. Rows are only ever appended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from llm_platform.records import TextLook
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

LISTED = listed("reads")
SCHEMA = arrow_schema("reads")


class Reads:
    """Looks at texts of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, way: str, *, by: str, at: datetime, rows: int = 1, document_ids: Sequence[str] = ()) -> None:
        """Write down one look, before anything is shown.

        Args:
            way: What was used, such as `explain --texts`.
            rows: How many rows were read, where they are not told apart.
            document_ids: What was read, where that is few documents: a row for each.
        """
        subjects = self.subjects()
        named = [TextLook(at=at, by=by, way=way, rows=1, subject=subjects(one)) for one in document_ids]
        self.append_looks(named or [TextLook(at=at, by=by, way=way, rows=rows)])

    def append_looks(self, looks: Sequence[TextLook]) -> None:
        """Write down looks, in one transaction."""
        table = pa.Table.from_pylist([one.model_dump() for one in looks], schema=SCHEMA)

        def body(transaction: Transaction) -> None:
            transaction.run(f"INSERT INTO {transaction.target('reads')} ({LISTED}) SELECT {LISTED} FROM looks")

        with self._session.cursor("write down who looked in") as cursor:
            cursor.register("looks", table)
            self._session.write(self._application, body, cursor=cursor)

    def subjects(self) -> Callable[[str], str | None]:
        """How documents are named here: as a hash that only the deployment's key can make; None where there is none."""
        if self._session.signing_key is None:
            return lambda _: None
        # Loads cryptography, which only looks at texts need.
        from llm_platform.signing.keys import signing_key

        key, application = signing_key(Path(self._session.signing_key), make=True), self._application
        return lambda document_id: key.keyed_hash(application, document_id)

    def table(self, *, document_id: str | None = None) -> pa.Table:
        """All looks, or those at one document and at so many that they are not told apart, oldest first."""
        relation = self._session.relation(self._application, "reads")
        where = "true" if document_id is None else "subject = $subject OR subject IS NULL"
        given = {} if document_id is None else {"subject": self.subjects()(document_id) or ""}
        return self._session.table(f'SELECT {LISTED} FROM {relation} WHERE {where} ORDER BY "at"', given)
