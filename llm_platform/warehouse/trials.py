"""`trials`: every look that somebody took at a prompt before it was anybody's variant."""

from __future__ import annotations

import pyarrow as pa

from llm_platform.records import Split, Trial
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

LISTED = listed("trials")


class Trials:
    """Trials of one application, and the documents that they use."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, trial: Trial) -> int:
        """Store a trial; returns the snapshot id."""
        given = pa.Table.from_pylist([trial.model_dump()], schema=arrow_schema("trials"))

        def body(transaction: Transaction) -> None:
            transaction.run(f"INSERT INTO {transaction.target('trials')} ({LISTED}) SELECT {LISTED} FROM given")

        with self._session.cursor("write a trial to") as cursor:
            cursor.register("given", given)
            return self._session.write(self._application, body, cursor=cursor)[1]

    def table(self) -> pa.Table:
        """All trials, oldest first."""
        return self._session.table(f'SELECT {LISTED} FROM {self._relation("trials")} ORDER BY "at", trial_id')

    def looks(self, split: Split) -> int:
        """How many different releases were tried on a split."""
        sql = f"SELECT count(DISTINCT release_id) FROM {self._relation('trials')} WHERE split = ?"
        return int(self._session.value(sql, [split]))

    def documents(self, split: Split, *, count: int, copies: bool = False) -> pa.Table:
        """Different texts of a split with a known answer, in an order that has nothing to do with what they say.

        With `copies` every document is there, also where several have one text and the known answers may differ.

        A smaller number is a part of a larger, so that answers are paid once. Texts that are in the training split are
        no evaluation. Columns: document_id, fingerprint, text, attributes, reference.
        """
        documents, references = self._relation("documents"), self._relation("references")
        trained = (
            f"SELECT d.fingerprint FROM {documents} d JOIN {references} r USING (document_id) WHERE r.split = 'train'"
        )
        apart = f"AND d.fingerprint NOT IN ({trained})" if split == "evaluation" else ""
        once = "QUALIFY row_number() OVER (PARTITION BY d.fingerprint ORDER BY d.document_id) = 1 "
        return self._session.table(
            f"SELECT d.document_id, d.fingerprint, d.text, d.attributes, r.answer AS reference "
            f"FROM {documents} d JOIN {references} r USING (document_id) "
            f"WHERE d.status = 'sendable' AND r.split = {literal(split)} AND r.answer IS NOT NULL {apart} "
            f"{'' if copies else once}"
            f"ORDER BY md5('trial:' || d.fingerprint), d.document_id LIMIT {count:d}"
        )

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)
