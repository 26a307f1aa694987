"""`scores`: grades of completions, one per (release, document, scorer, version of the references)."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from llm_platform.records import Score
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.documents import SHORT_COLUMNS, DocumentsTable
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import FEW_KEYS, Session, Transaction

KEY = ("release_id", "fingerprint", "document_id", "scorer", "references_version")
"""The fingerprint is part of the key: a document whose text has changed is graded again."""

VERSIONED = ("document_id", "fingerprint", "scorer", "score", "reason")
SCORES_SCHEMA = arrow_schema("scores", without=["created_at"])
LISTED = listed("scores", without=["created_at"])


class Scores:
    """Scores of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, rows: Sequence[Score]) -> int:
        """Store the scores whose key is missing; returns the snapshot id."""
        given = pa.Table.from_pylist([row.model_dump() for row in rows], schema=SCORES_SCHEMA)
        same_key = " AND ".join(f"g.{name} = s.{name}" for name in KEY)

        def body(transaction: Transaction) -> None:
            new = (
                f"FROM given g WHERE NOT EXISTS (SELECT 1 FROM {transaction.relation('scores')} s WHERE {same_key}) "
                f"QUALIFY row_number() OVER (PARTITION BY {', '.join(KEY)}) = 1"
            )
            if transaction.run(f"SELECT 1 {new} LIMIT 1"):
                target = transaction.target("scores")
                transaction.run(f"INSERT INTO {target} ({LISTED}, created_at) SELECT {LISTED}, now() {new}")

        with self._session.cursor("write") as cursor:
            cursor.register("given", given)
            return self._session.write(self._application, body, cursor=cursor)[1]

    def of_release(self, release_id: str, references_version: str) -> pa.Table:
        """Scores of a release for the documents as they are now, in the order of their keys."""
        present = self._present(release_id, references_version)
        return self._session.table(f"{present} ORDER BY s.document_id, s.scorer", [release_id, references_version])

    def version(self, release_id: str, references_version: str) -> str:
        """Hash of the same."""
        sql = version_select(VERSIONED, f"({self._present(release_id, references_version)})")
        return version_of(self._session.rows(sql, [release_id, references_version])[0])

    def _present(self, release_id: str, references_version: str) -> str:
        of_it = f"{self._relation()} s WHERE s.release_id = ? AND s.references_version = ?"
        keys = self._session.rows(f"SELECT DISTINCT document_id FROM {of_it}", [release_id, references_version])
        documents = self._session.relation(self._application, "documents")
        if len(keys) <= FEW_KEYS:
            # Mostly those with a known answer, which every step asks for: they are looked for once.
            known = DocumentsTable(self._session, self._application).some([row[0] for row in keys], SHORT_COLUMNS)
            listed = ", ".join(f"unnest({_list(known[name].to_pylist())}) AS {name}" for name in SHORT_COLUMNS[:2])
            documents = f"(SELECT {listed})"
        return (
            f"SELECT {', '.join('s.' + name for name in SCORES_SCHEMA.names)} FROM {of_it} AND EXISTS ("
            f"SELECT 1 FROM {documents} d WHERE d.document_id = s.document_id AND d.fingerprint = s.fingerprint)"
        )

    def _relation(self) -> str:
        return self._session.relation(self._application, "scores")


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(literal, texts))}]::VARCHAR[]"
