"""`published_v<contract>`: what downstream reads, one row per document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from llm_platform.errors import PlatformError, StorageError
from llm_platform.records import RowsChanged, SourceState
from llm_platform.records.rollout import Route
from llm_platform.records.tables import PUBLISHED
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.explain import explain
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.schema import published_table
from llm_platform.warehouse.session import Session, Transaction
from llm_platform.warehouse.stored_reasons import in_own_words

COMPARED = ("answer", "confidence", "variant", "release_id", "status", "reason", "fingerprint")
"""Columns whose change makes a row another one; snapshots and times of equal rows stay as they were."""


class Served(NamedTuple):
    """Whose answers readers get: the champion's, and of challengers those that are routed to them."""

    release_id: str
    variant: str | None
    routes: tuple[Route, ...]


class Published:
    """Published tables of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def publish(
        self, release_id: str, contract: int, *, variant: str | None = None, routes: Sequence[Route] = ()
    ) -> RowsChanged:
        """Make the table say what `release_id` answers, in one transaction.

        Every document has a row; one without a valid answer has NULL and the reason. Documents that left the source
        leave.

        Args:
            variant: Its name, written on every row.
            routes: Challengers that publish a share, the oldest first; what one has not answered yet is the champion's.
        """
        served = Served(release_id, variant, tuple(routes))
        with self._session.cursor("publish in") as cursor:
            counts, snapshot_id = self._session.write(
                self._application, lambda transaction: _publish(transaction, served, contract), cursor=cursor
            )
        return RowsChanged(**counts, snapshot_id=snapshot_id)

    def pending(
        self, release_id: str, contract: int, *, variant: str | None = None, routes: Sequence[Route] = ()
    ) -> int:
        """How many rows `publish` would change."""
        served = Served(release_id, variant, tuple(routes))
        with self._session.cursor() as cursor:
            # Never begun and never committed: the temporary tables are the cursor's own.
            counts = _differences(Transaction(self._session, cursor, self._application), served, contract)
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


def _differences(transaction: Transaction, served: Served, contract: int) -> dict[str, int]:
    """Fill the temporary tables `wanted`, `difference` and `gone`; returns how many rows each way."""
    stored = transaction.relation(published_table(contract))
    # One table first: a document's place is computed once, and the joins below are equations.
    transaction.run(
        f"CREATE OR REPLACE TEMP TABLE routed AS SELECT *, {_route(served.routes)} AS route "
        f"FROM {transaction.relation('documents')}"
    )
    transaction.run(f"CREATE OR REPLACE TEMP TABLE wanted AS {_wanted(transaction, served)}")
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


def _publish(transaction: Transaction, served: Served, contract: int) -> dict[str, int]:
    table = published_table(contract)
    counts = _differences(transaction, served, contract)
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


def _route(routes: Sequence[Route]) -> str:
    """SQL for the place of a document's route, NULL for the champion; the number drawn is `rollout.routing`'s."""
    cases = " ".join(
        # The length keeps ids apart that would run into each other.
        f"WHEN ('0x' || substr(sha256({literal(f'{len(one.rollout_id)}:{one.rollout_id}:')} || document_id), 1, 14))"
        f"::UBIGINT / 72057594037927936.0 < {literal(repr(one.share))}::DOUBLE THEN {at}"
        for at, one in enumerate(routes)
    )
    return f"CASE {cases} END" if cases else "NULL::INTEGER"


def _wanted(transaction: Transaction, served: Served) -> str:
    """SQL for what readers are to get, from the table `routed`."""
    # As one equation: with a second condition on one side only, the engine compares every pair of rows.
    joins = [
        f"LEFT JOIN ({_answers(transaction, literal(served.release_id))}) c "
        "ON c.fingerprint = CASE WHEN d.status = 'sendable' THEN d.fingerprint END"
    ]
    found = _columns("c", served.release_id, served.variant)
    for at, one in enumerate(served.routes):
        joins.append(
            f"LEFT JOIN ({_answers(transaction, literal(one.release_id))}) c{at} "
            f"ON c{at}.fingerprint = CASE WHEN d.status = 'sendable' AND d.route = {at} THEN d.fingerprint END"
        )
        own = _columns(f"c{at}", one.release_id, one.variant)
        found = {name: f"CASE WHEN c{at}.status IS NOT NULL THEN {own[name]} ELSE {found[name]} END" for name in found}
    return (
        f"SELECT d.document_id, {found['answer']} AS answer, {found['confidence']} AS confidence, "
        f"{found['variant']} AS variant, {found['release_id']} AS release_id, "
        f"CASE WHEN d.status <> 'sendable' THEN d.status ELSE coalesce({found['status']}, 'unanswered') END AS status, "
        "CASE WHEN d.status <> 'sendable' THEN d.reason "
        f"WHEN ({found['status']}) IS NULL THEN 'no answer of this release is stored' ELSE {found['reason']} END "
        f"AS reason, d.fingerprint FROM routed d {' '.join(joins)}"
    )


def _columns(alias: str, release_id: str, variant: str | None) -> dict[str, str]:
    named = "NULL::VARCHAR" if variant is None else literal(variant)
    answered = {name: f"{alias}.{name}" for name in ("answer", "confidence", "status", "reason")}
    return {**answered, "release_id": literal(release_id), "variant": named}


def _answers(transaction: Transaction, release: str) -> str:
    columns = f"fingerprint, status, answer, confidence, {in_own_words()} AS reason"
    ours, theirs = transaction.relation("completions"), transaction.upstream("completions")
    return (
        f"SELECT {columns} FROM {ours} WHERE release_id = {release} UNION ALL "
        f"SELECT {columns} FROM {theirs} t WHERE release_id = {release} "
        f"AND NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.release_id = {release} AND o.fingerprint = t.fingerprint)"
    )


def _source_snapshot(transaction: Transaction) -> int | None:
    found = transaction.run(f"SELECT state FROM {transaction.relation('documents_consumed')}")
    return SourceState.model_validate_json(found[0][0]).snapshot_id if found else None
