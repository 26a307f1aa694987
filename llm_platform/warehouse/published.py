"""`published_v<contract>`: what downstream reads, one row per document."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from llm_platform.errors import PlatformError, StorageError
from llm_platform.records import RowsChanged, SourceState
from llm_platform.records.tables import PUBLISHED
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.explain import explain
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.schema import published_table
from llm_platform.warehouse.session import Session, Transaction
from llm_platform.warehouse.stored_reasons import in_own_words

COMPARED = ("answer", "confidence", "release_id", "status", "reason", "fingerprint")
"""Columns whose change makes a row another one; snapshots and times of equal rows stay as they were."""


class Published:
    """Published tables of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def publish(self, release_id: str, contract: int) -> RowsChanged:
        """Make the table say what `release_id` answers, in one transaction.

        Every document has a row; one without a valid answer has NULL and the reason. Documents that left the source
        leave.
        """
        with self._session.cursor("publish in") as cursor:
            counts, snapshot_id = self._session.write(
                self._application, lambda transaction: _publish(transaction, release_id, contract), cursor=cursor
            )
        return RowsChanged(**counts, snapshot_id=snapshot_id)

    def pending(self, release_id: str, contract: int) -> int:
        """How many rows `publish` would change."""
        with self._session.cursor() as cursor:
            # Never begun and never committed: the temporary tables are the cursor's own.
            counts = _differences(Transaction(self._session, cursor, self._application), release_id, contract)
        return counts["inserted"] + counts["updated"] + counts["deleted"]

    def count(self, contract: int) -> int:
        """How many rows readers get."""
        relation = self._session.relation(self._application, published_table(contract))
        return int(self._session.value(f"SELECT count(*) FROM {relation}"))

    def table(self, contract: int, *, at_snapshot: int | None = None) -> pa.Table:
        """The published rows in the order of their keys."""
        relation = self._session.relation(self._application, published_table(contract), at_snapshot=at_snapshot)
        return self._session.table(f"SELECT * FROM {relation} ORDER BY document_id")

    def export_parquet(self, contract: int, path: Path | str) -> int:
        """Write the published rows to a Parquet file, which appears whole or not at all; returns the number of rows.

        Raises:
            StorageError: the folder cannot be written.
        """
        final = Path(path)
        partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
        relation = self._session.relation(self._application, published_table(contract))
        listed = ", ".join(identifier(name) for name in PUBLISHED)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with self._session.cursor(f"export to {str(final)!r} from") as cursor:
                count = cursor.execute(
                    f"COPY (SELECT {listed} FROM {relation} ORDER BY document_id) TO {literal(str(partial))} (FORMAT "
                    "parquet)"
                ).fetchall()[0][0]
            os.replace(partial, final)
        except OSError as error:
            raise StorageError(
                f"Cannot export to {str(final)!r}: {error.strerror}. Make the folder writable."
            ) from error
        except PlatformError:
            partial.unlink(missing_ok=True)
            raise
        return int(count)

    def data_version(self, contract: int) -> str:
        """Hash of what the table says, without snapshots and times."""
        relation = self._session.relation(self._application, published_table(contract))
        return version_of(self._session.rows(version_select(("document_id", *COMPARED), relation))[0])

    def explain(self, document_id: str, contract: int, *, with_texts: bool = False) -> dict[str, object]:
        """Everything that made one published row; texts, prompts' templates and raw answers only on request.

        Raises:
            ContractBroken: there is no such document, here or in the published table.
        """
        return explain(self._session, self._application, document_id, contract=contract, with_texts=with_texts)


def _differences(transaction: Transaction, release_id: str, contract: int) -> dict[str, int]:
    """Fill the temporary tables `wanted`, `difference` and `gone`; returns how many rows each way."""
    stored = transaction.relation(published_table(contract))
    transaction.run(f"CREATE OR REPLACE TEMP TABLE wanted AS {_wanted(transaction)}", {"release": release_id})
    differs = " OR ".join(f"w.{column} IS DISTINCT FROM p.{column}" for column in COMPARED)
    transaction.run(
        f"CREATE OR REPLACE TEMP TABLE difference AS SELECT w.document_id, p.document_id IS NULL AS is_new FROM "
        "wanted w "
        f"LEFT JOIN {stored} p USING (document_id) WHERE p.document_id IS NULL OR {differs}"
    )
    transaction.run(
        f"CREATE OR REPLACE TEMP TABLE gone AS SELECT p.document_id FROM {stored} p ANTI JOIN wanted w USING "
        "(document_id)"
    )
    inserted = transaction.count("SELECT count(*) FROM difference WHERE is_new")
    updated = transaction.count("SELECT count(*) FROM difference WHERE NOT is_new")
    deleted = transaction.count("SELECT count(*) FROM gone")
    unchanged = transaction.count("SELECT count(*) FROM wanted") - inserted - updated
    return {"inserted": inserted, "updated": updated, "deleted": deleted, "unchanged": unchanged}


def _publish(transaction: Transaction, release_id: str, contract: int) -> dict[str, int]:
    table = published_table(contract)
    counts = _differences(transaction, release_id, contract)
    if counts["updated"] or counts["deleted"]:
        transaction.run(
            f"DELETE FROM {transaction.target(table)} WHERE document_id IN "
            "(SELECT document_id FROM difference WHERE NOT is_new UNION ALL SELECT document_id FROM gone)"
        )
    if counts["inserted"] or counts["updated"]:
        transaction.run(
            f"INSERT INTO {transaction.target(table)} BY NAME SELECT w.*, $source::BIGINT AS source_snapshot, "
            "$documents::BIGINT AS documents_snapshot, now() AS published_at FROM wanted w "
            "SEMI JOIN difference d USING (document_id) ORDER BY w.document_id",
            {
                "source": _source_snapshot(transaction),
                "documents": transaction.count("SELECT id FROM lake.current_snapshot()"),
            },
        )
    return counts


def _wanted(transaction: Transaction) -> str:
    columns = f"fingerprint, status, answer, confidence, {in_own_words()} AS reason"
    ours, theirs = transaction.relation("completions"), transaction.upstream("completions")
    answers = (
        f"SELECT {columns} FROM {ours} WHERE release_id = $release UNION ALL "
        f"SELECT {columns} FROM {theirs} t WHERE release_id = $release "
        f"AND NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.release_id = $release AND o.fingerprint = t.fingerprint)"
    )
    return (
        "SELECT d.document_id, c.answer, c.confidence, $release AS release_id, "
        "CASE WHEN d.status <> 'sendable' THEN d.status ELSE coalesce(c.status, 'unanswered') END AS status, "
        "CASE WHEN d.status <> 'sendable' THEN d.reason "
        "WHEN c.status IS NULL THEN 'no answer of this release is stored' ELSE c.reason END AS reason, "
        f"d.fingerprint FROM {transaction.relation('documents')} d LEFT JOIN ({answers}) c "
        # As one equation: with a second condition on one side only, the engine compares every pair of rows.
        "ON c.fingerprint = CASE WHEN d.status = 'sendable' THEN d.fingerprint END"
    )


def _source_snapshot(transaction: Transaction) -> int | None:
    found = transaction.run(f"SELECT state FROM {transaction.relation('documents_consumed')}")
    return SourceState.model_validate_json(found[0][0]).snapshot_id if found else None
