"""`references`: known answers and the split they belong to."""

from __future__ import annotations

import pyarrow as pa

from llm_platform.errors import ContractBroken
from llm_platform.records import Split
from llm_platform.records.tables import REFERENCES_SCHEMA
from llm_platform.warehouse.bars import leave_out_forgotten
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

VERSIONED = ("document_id", "answer", "split")
"""What a known answer says. Where it came from changes no grade."""


class ReferencesTable:
    """References of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def replace(self, rows: pa.Table) -> int:
        """Make `rows` (document_id, answer, split, and `table` or how it came about as provenance) the references;
        returns the snapshot id.

        Raises:
            ContractBroken: a document has two references, or a column is missing.
        """
        if "provenance" not in rows.column_names:
            rows = rows.append_column("provenance", pa.repeat("table", rows.num_rows))
        missing = [name for name in REFERENCES_SCHEMA.names if name not in rows.column_names]
        if missing:
            raise ContractBroken(f"Reference rows lack the columns {missing}; they have {rows.column_names}.")
        with self._session.cursor("stage references for") as cursor:
            cursor.register("given", rows.select(REFERENCES_SCHEMA.names).cast(REFERENCES_SCHEMA))
            cursor.execute("CREATE TEMP TABLE staged AS SELECT * FROM given")
            leave_out_forgotten(self._session, self._application, cursor, ("staged",))
            doubled = cursor.execute(
                "SELECT count(*), min(document_id) FROM (SELECT document_id FROM staged GROUP BY 1 HAVING count(*) > 1)"
            ).fetchall()[0]
            if doubled[0]:
                raise ContractBroken(
                    f"{doubled[0]} documents have more than one reference (first: {doubled[1]!r}). Keep one row per "
                    "document."
                )
            return self._session.write(self._application, _replace, cursor=cursor)[1]

    def table(self, *, at_snapshot: int | None = None) -> pa.Table:
        """References in the order of their keys, as they are or were at a snapshot."""
        relation = self._session.relation(self._application, "references", at_snapshot=at_snapshot)
        return self._session.table(f"SELECT * FROM {relation} ORDER BY document_id")

    def version(self, *, split: Split | None = None) -> str:
        """Hash of the references, of one split or of both."""
        where = "true" if split is None else f"split = {literal(split)}"
        return version_of(self._session.rows(version_select(VERSIONED, self._relation(), where))[0])

    def _relation(self) -> str:
        return self._session.relation(self._application, "references")


def _replace(transaction: Transaction) -> None:
    columns = listed("references")
    _add_provenance(transaction)
    stored = transaction.relation("references")
    staged = f"SELECT {columns} FROM staged"
    kept = f"SELECT {columns} FROM {stored}"
    changed = transaction.count(f"SELECT count(*) FROM (({staged} EXCEPT {kept}) UNION ALL ({kept} EXCEPT {staged}))")
    if not changed:
        return
    target = transaction.target("references")
    transaction.run(
        f"DELETE FROM {target} WHERE document_id NOT IN (SELECT document_id FROM ({staged} INTERSECT {kept}))"
    )
    transaction.run(
        f"INSERT INTO {target} ({columns}) SELECT {columns} FROM staged "
        f"WHERE document_id NOT IN (SELECT document_id FROM {target}) ORDER BY document_id"
    )


def _add_provenance(transaction: Transaction) -> None:
    """Give a table that was made before verdicts became references its fourth column."""
    described = transaction.run(f"DESCRIBE SELECT * FROM {transaction.relation('references')}")
    if "provenance" not in {row[0] for row in described}:
        transaction.run(f"ALTER TABLE {transaction.target('references')} ADD COLUMN provenance VARCHAR")
