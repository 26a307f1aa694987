"""`documents`: the current text of every document, and how far the source has been read."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from llm_platform.errors import ContractBroken, DropHeld, TransientError
from llm_platform.records import RowsChanged, SourceState
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.warehouse.bars import leave_out_forgotten
from llm_platform.warehouse.changes import AllBut
from llm_platform.warehouse.engine import identifier, one_of
from llm_platform.warehouse.kept_rows import KeptRows
from llm_platform.warehouse.schema import columns_of
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction
from llm_platform.warehouse.tallies import Tallies

HOLDS_NUL = "contains(document_id, chr(0))"
MADE_AGAIN = ("documents", "references", "scores", "drift_flags", "labelling")
"""Tables with keys whose rows follow from others."""

COMPARED = ("fingerprint", "status", "reason", "bucket", "attributes", "withheld")
"""Columns whose change makes a document another one. Texts with equal fingerprints differ in spaces only."""

MOST_LOST = 20
"""So many documents may leave a small table, whatever share of it they are."""


ONLINE = "online"
"""Origin of documents that callers have sent; those of the source have none."""

NAMED = "named"
"""Name under which rows are kept of documents that known answers name."""
SHORT_COLUMNS = ("document_id", "fingerprint", "attributes", "status")
"""What is mostly asked of some documents, without their texts."""


class DocumentsTable:
    """Documents of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def consumed(self, *, at_snapshot: int | None = None) -> SourceState | None:
        """The state of the source that the documents were made from; None before the first time."""
        found = self._session.value(f"SELECT state FROM {self._relation('documents_consumed', at_snapshot)}")
        return None if found is None else SourceState.model_validate_json(found)

    def others_upstream(self) -> int:
        """How many documents are here and not upstream, there and not here, or another one in each."""
        here, there = (self._session.relation(self._application, "documents", catalog=one) for one in (LAKE, UPSTREAM))
        differ = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in ("document_id", "fingerprint", "status"))
        return int(
            self._session.value(f"SELECT count(*) FROM {here} a FULL JOIN {there} b USING (document_id) WHERE {differ}")
        )

    def apply(
        self,
        rows: Iterable[pa.RecordBatch],
        *,
        deleted: Sequence[str] | AllBut | None,
        full: bool,
        consumed: SourceState,
        following: SourceState | None = None,
        max_drop: float = 1.0,
        departing: bool = False,
    ) -> RowsChanged:
        """Bring the documents to what the source says, together with the state that says so.

        Args:
            rows: Batches with the columns of `DOCUMENTS_SCHEMA`: changed documents, or all of them.
            deleted: Keys that left the source, or the keys that are still in it (`AllBut`).
            full: Whether `rows` is everything: what is absent leaves.
            consumed: State of the source that the rows were read at.
            following: What was stored of it before. Where it still is, an older state is that of a source which was
                restored from a backup, and not that of a run which was overtaken.
            max_drop: Share of the documents that may leave, more or less those that come; 20 always may.
            departing: Whether keys that leave are written down, to be forgotten.

        Raises:
            DropHeld: more would leave; nothing is written.
            ContractBroken: a document_id occurs twice, or a column is missing.
            TransientError: another run has meanwhile applied a newer state of the same source table.
        """
        left = "d.document_id IN (SELECT document_id FROM keys)"
        if full or isinstance(deleted, AllBut):
            left = "true" if full else "d.document_id NOT IN (SELECT document_id FROM keys)"
        # A feed names every row that it is about, so no other has to be looked at.
        named = not full and not isinstance(deleted, AllBut)
        before = self.of_source()
        with self._session.cursor("stage documents for") as cursor:
            _stage(cursor, rows, deleted, within=self._session.sparingly)
            leave_out_forgotten(self._session, self._application, cursor, ("staged", "keys"))

            def body(transaction: Transaction) -> dict[str, int]:
                return _apply(
                    transaction,
                    left=left,
                    named=named,
                    before=before,
                    consumed=consumed,
                    following=following,
                    max_drop=max_drop,
                    departing=departing,
                )

            counts, snapshot_id = self._session.sparingly(
                lambda: self._session.write(self._application, body, cursor=cursor)
            )
        return RowsChanged(**counts, snapshot_id=snapshot_id)

    def take_in(self, rows: Sequence[pa.RecordBatch]) -> RowsChanged:
        """Bring in documents that callers have sent. Those of the source stay as they are, and take over equal keys.

        Args:
            rows: With the columns of `DOCUMENTS_SCHEMA`, each key once.
        """
        with self._session.cursor("stage documents for") as cursor:
            _stage(cursor, rows, None)
            leave_out_forgotten(self._session, self._application, cursor, ("staged",))
            counts, snapshot_id = self._session.write(self._application, _take_in, cursor=cursor)
        return RowsChanged(**counts, snapshot_id=snapshot_id)

    def of_source(self) -> int:
        """How many documents the source has."""
        counted = Tallies(self._session, self._application).documents().of_source
        if counted is not None:
            return counted
        return int(self._session.value(f"SELECT count(*) FROM {self._relation('documents')} WHERE origin IS NULL"))

    def mend(self) -> int:
        """Free tables of keys with a NUL, which no key has any more; returns how many rows had one.

        DuckLake writes the bounds of what is joined into SQL, which a NUL ends: with such a row in it, a table cannot
        be joined with anything, not even to delete the row. What was paid for or said by people stays.
        """
        keyed = [name for name in self._session.tables(self._application) if "document_id" in (columns_of(name) or ())]

        def body(transaction: Transaction) -> int:
            mended = 0
            for name in keyed:
                if not transaction.count(f"SELECT count(*) FROM {transaction.relation(name)} WHERE {HOLDS_NUL}"):
                    continue
                target = transaction.target(name)
                if name in MADE_AGAIN or name.startswith("published_v"):
                    mended += transaction.count(f"DELETE FROM {target} WHERE {HOLDS_NUL}")
                else:
                    freed = "document_id = replace(document_id, chr(0), '')"
                    mended += transaction.count(f"UPDATE {target} SET {freed} WHERE {HOLDS_NUL}")
            return mended

        return self._session.write(self._application, body)[0] if keyed else 0

    def table(self, columns: Sequence[str] | None = None, *, at_snapshot: int | None = None) -> pa.Table:
        """Documents in the order of their keys."""
        selected = ", ".join(identifier(column) for column in columns) if columns else "*"
        return self._session.table(
            f"SELECT {selected} FROM {self._relation('documents', at_snapshot)} ORDER BY document_id"
        )

    def keys(self) -> pa.Table:
        """The keys of all documents, as one column `document_id` in any order."""
        return self._session.table(f"SELECT document_id FROM {self._relation('documents')}")

    def known(self, columns: Sequence[str]) -> pa.Table:
        """Documents that have a known answer, in the order of their keys."""
        return self.some(self._known_keys(), columns)

    def some(self, document_ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Documents with these keys, as far as they are there, in the order of their keys."""
        named = sorted(set(document_ids))
        if not set(columns) <= set(SHORT_COLUMNS):
            return self._session.table(f"{self.named_sql(columns, named)} ORDER BY document_id")
        # Some hundred keys lie in every part of a table, so a look is a pass: one for all that ask, and kept.
        kept = KeptRows(self._session, self._application)
        found = kept.rows(
            NAMED, named, lambda keys: self._session.table(self.named_sql(SHORT_COLUMNS, keys)), of=SHORT_COLUMNS
        )
        return found.select(list(columns))

    def withheld(self, document_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Document → placeholder → what was taken out of it, where that is kept, of these documents."""
        kept = self._session.value(f"SELECT count(withheld) FROM {self._relation('documents')}")
        if not kept:
            return {}
        found = self.some(document_ids, ["document_id", "withheld"]).to_pylist()
        return {row["document_id"]: json.loads(row["withheld"]) for row in found if row["withheld"]}

    def shared(self, fingerprints: Collection[str]) -> dict[str, int]:
        """Text → how many sendable documents have it, of these texts."""
        return KeptRows(self._session, self._application).holders(fingerprints) if fingerprints else {}

    def named_sql(self, columns: Sequence[str], document_ids: Sequence[str]) -> str:
        """SQL of documents with these keys."""
        selected = ", ".join(identifier(column) for column in columns)
        return f"SELECT {selected} FROM {self._relation('documents')} WHERE {one_of('document_id', document_ids)}"

    def _known_keys(self) -> list[str]:
        return [row[0] for row in self._session.rows(f"SELECT document_id FROM {self._relation('references')}")]

    def rows(self, document_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Texts of some documents: document_id, fingerprint, text and attributes, in the order of their keys.

        Args:
            document_ids: In order.
        """
        if not document_ids:
            return []
        found = self._session.rows(
            # The range lets the engine pass over files that hold none of them.
            f"SELECT document_id, fingerprint, text, attributes FROM {self._relation('documents')} "
            "WHERE document_id BETWEEN $first AND $last AND document_id IN (SELECT unnest($listed::VARCHAR[])) "
            "ORDER BY document_id",
            {"first": document_ids[0], "last": document_ids[-1], "listed": list(document_ids)},
        )
        names = ("document_id", "fingerprint", "text", "attributes")
        return [dict(zip(names, (*row[:3], json.loads(row[3] or "{}")), strict=True)) for row in found]

    def fingerprint(self, document_id: str) -> str | None:
        """Fingerprint of one document's text; None when there is no such document."""
        found: str | None = self._session.value(
            f"SELECT fingerprint FROM {self._relation('documents')} WHERE document_id = ?", [document_id]
        )
        return found

    def first_key(self) -> str | None:
        """The first key in their order; None where there are no documents."""
        found: str | None = self._session.value(f"SELECT min(document_id) FROM {self._relation('documents')}")
        return found

    def counts(self) -> dict[str, int]:
        """Status → number of documents."""
        return Tallies(self._session, self._application).documents().counts

    def not_sendable(self, most: int) -> list[tuple[str, str, int, str]]:
        """(status, reason, documents, the first of them) of what cannot be sent, the most frequent first; so many."""
        if not self.counts().keys() - {"sendable"}:
            return []
        return self._session.rows(
            f"SELECT status, coalesce(reason, ''), count(*), min(document_id) FROM {self._relation('documents')} "
            "WHERE status <> 'sendable' GROUP BY ALL ORDER BY 3 DESC, 4 LIMIT ?",
            [most],
        )

    def data_version(self) -> str:
        """Hash of keys, fingerprints and statuses."""
        return Tallies(self._session, self._application).documents().data_version

    def _relation(self, table: str, at_snapshot: int | None = None) -> str:
        return self._session.relation(self._application, table, at_snapshot=at_snapshot)


def _at_once(statement: Callable[[], Any]) -> Any:
    """What callers send is few rows, and a service has no time to bound their memory."""
    return statement()


def _stage(
    cursor: duckdb.DuckDBPyConnection,
    rows: Iterable[pa.RecordBatch],
    deleted: Sequence[str] | AllBut | None,
    *,
    within: Callable[[Callable[[], Any]], Any] = _at_once,
) -> None:
    cursor.register("no_documents", DOCUMENTS_SCHEMA.empty_table())
    cursor.execute("CREATE TEMP TABLE staged AS SELECT * FROM no_documents")
    # Batch by batch: an error of the reader passes through unchanged, and only one batch is held in Python. Those of
    # before spill; the reader has what it needs.
    for batch in rows:
        cursor.register("batch", _conformed(batch))
        within(lambda: cursor.execute("INSERT INTO staged SELECT * FROM batch"))
        cursor.unregister("batch")
    listed = (
        deleted.keys if isinstance(deleted, AllBut) else pa.table({"document_id": pa.array(deleted or (), pa.string())})
    )
    cursor.register("listed", listed)
    cursor.execute("CREATE TEMP TABLE keys AS SELECT DISTINCT document_id FROM listed WHERE document_id IS NOT NULL")
    doubled = within(
        lambda: cursor.execute(
            "SELECT count(*), min(document_id) FROM (SELECT document_id FROM staged GROUP BY 1 HAVING count(*) > 1)"
        ).fetchall()
    )[0]
    if doubled[0]:
        raise ContractBroken(
            f"{doubled[0]} document keys occur more than once (first: {doubled[1]!r}). Make the key column of the "
            "source unique."
        )
    missing = cursor.execute("SELECT count(*) FROM staged WHERE document_id IS NULL OR fingerprint IS NULL").fetchall()[
        0
    ][0]
    if missing:
        raise ContractBroken(
            f"{missing} documents have no key or no fingerprint. Make the key column of the source NOT NULL."
        )


def _conformed(batch: pa.RecordBatch) -> pa.Table:
    missing = [name for name in DOCUMENTS_SCHEMA.names if name not in batch.schema.names]
    if missing:
        raise ContractBroken(f"Document rows lack the columns {missing}; they have {batch.schema.names}.")
    return pa.table(
        [batch.column(name).cast(DOCUMENTS_SCHEMA.field(name).type) for name in DOCUMENTS_SCHEMA.names],
        DOCUMENTS_SCHEMA,
    )


def dropped(before: int, after: int, max_drop: float) -> str | None:
    """What is to be said of a source that has lost too many rows; None where it has not."""
    lost = before - after
    if lost <= MOST_LOST or lost <= max_drop * before:
        return None
    return f"{after} rows are left of {before} documents: {lost} fewer, where source.max_drop allows {max_drop:.0%}"


def _apply(
    transaction: Transaction,
    *,
    left: str,
    named: bool,
    before: int,
    consumed: SourceState,
    following: SourceState | None,
    max_drop: float,
    departing: bool,
) -> dict[str, int]:
    _refuse_older(transaction, consumed, following)
    stored = transaction.relation("documents")
    if named:
        transaction.run(
            f"CREATE OR REPLACE TEMP TABLE touched AS SELECT document_id, origin, {', '.join(COMPARED)} "
            f"FROM {stored} d JOIN (SELECT document_id FROM staged UNION SELECT document_id FROM keys) "
            "USING (document_id)"
        )
        stored = "touched"
    # A document that a caller has sent before the source had it is the source's from now on.
    differs = " OR ".join(f"s.{column} IS DISTINCT FROM d.{column}" for column in COMPARED) + " OR d.origin IS NOT NULL"
    transaction.run(
        "CREATE OR REPLACE TEMP TABLE difference AS "
        f"SELECT s.document_id, d.document_id IS NULL AS is_new FROM staged s LEFT JOIN {stored} d USING (document_id) "
        f"WHERE d.document_id IS NULL OR {differs}"
    )
    transaction.run(
        "CREATE OR REPLACE TEMP TABLE gone AS "
        f"SELECT d.document_id FROM {stored} d LEFT JOIN staged s USING (document_id) WHERE s.document_id IS NULL "
        f"AND d.origin IS NULL AND {left}"
    )
    inserted = transaction.count("SELECT count(*) FROM difference WHERE is_new")
    updated = transaction.count("SELECT count(*) FROM difference WHERE NOT is_new")
    deleted = transaction.count("SELECT count(*) FROM gone")
    if (held := dropped(before, before + inserted - deleted, max_drop)) is not None:
        raise DropHeld(held)
    if updated or deleted:
        transaction.run(
            "CREATE OR REPLACE TEMP TABLE leaving AS SELECT document_id FROM difference WHERE NOT is_new "
            "UNION ALL SELECT document_id FROM gone"
        )
        transaction.run(f"DELETE FROM {transaction.target('documents')} WHERE {transaction.among('leaving')}")
    if inserted or updated or deleted:
        changed = "SELECT document_id FROM difference UNION ALL SELECT document_id FROM gone"
        transaction.changes_documents("documents", changed)
    if deleted and departing:
        transaction.run(f"INSERT INTO {transaction.target('departed')} SELECT document_id, now() FROM gone")
    if inserted or updated:
        columns = ", ".join(DOCUMENTS_SCHEMA.names)
        transaction.run(
            f"INSERT INTO {transaction.target('documents')} ({columns}, updated_at) "
            f"SELECT {columns}, now() FROM staged WHERE document_id IN (SELECT document_id FROM difference) ORDER BY "
            "document_id"
        )
    _store_consumed(transaction, consumed)
    unchanged = transaction.count("SELECT count(*) FROM staged") - inserted - updated
    return {"inserted": inserted, "updated": updated, "deleted": deleted, "unchanged": unchanged}


def _take_in(transaction: Transaction) -> dict[str, int]:
    stored = transaction.relation("documents")
    differs = " OR ".join(f"s.{column} IS DISTINCT FROM d.{column}" for column in COMPARED)
    transaction.run(
        "CREATE OR REPLACE TEMP TABLE difference AS "
        f"SELECT s.document_id, d.document_id IS NULL AS is_new FROM staged s LEFT JOIN {stored} d USING (document_id) "
        f"WHERE d.document_id IS NULL OR (d.origin = '{ONLINE}' AND ({differs}))"
    )
    inserted = transaction.count("SELECT count(*) FROM difference WHERE is_new")
    updated = transaction.count("SELECT count(*) FROM difference WHERE NOT is_new")
    if inserted or updated:
        target, columns = transaction.target("documents"), ", ".join(DOCUMENTS_SCHEMA.names)
        transaction.run(
            f"DELETE FROM {target} WHERE document_id IN (SELECT document_id FROM difference WHERE NOT is_new)"
        )
        transaction.run(
            f"INSERT INTO {target} ({columns}, updated_at, origin) "
            f"SELECT {columns}, now(), '{ONLINE}' FROM staged "
            "WHERE document_id IN (SELECT document_id FROM difference) ORDER BY document_id"
        )
    unchanged = transaction.count("SELECT count(*) FROM staged") - inserted - updated
    return {"inserted": inserted, "updated": updated, "deleted": 0, "unchanged": unchanged}


def _stored_consumed(transaction: Transaction) -> SourceState | None:
    found = transaction.run(f"SELECT state FROM {transaction.relation('documents_consumed')}")
    return SourceState.model_validate_json(found[0][0]) if found else None


def _refuse_older(transaction: Transaction, consumed: SourceState, following: SourceState | None) -> None:
    stored = _stored_consumed(transaction)
    if stored is not None and stored != following and consumed.is_behind(stored):
        there, here = (
            f"snapshot {one.snapshot_id}" if one.lsn is None else f"{one.lsn} of the WAL" for one in (stored, consumed)
        )
        raise TransientError(
            f"Another run has already read the source up to {there}; this one read it at {here}. Nothing was changed; "
            "run again."
        )


def _store_consumed(transaction: Transaction, consumed: SourceState) -> None:
    if _stored_consumed(transaction) == consumed:
        return
    target = transaction.target("documents_consumed")
    transaction.run(f"DELETE FROM {target}")
    transaction.run(f"INSERT INTO {target} VALUES (?, now())", [consumed.model_dump_json()])
