"""`published_v<contract>`: what downstream reads, one row per document."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from llm_platform.errors import ContractBroken
from llm_platform.records import RowsChanged, SourceState, content_hash
from llm_platform.records.contracts import ANSWER, KEY, Contract, text_contract
from llm_platform.records.rollout import Route
from llm_platform.records.tables import TO_EVERY_READER
from llm_platform.warehouse.answer_columns import (
    differs,
    joins,
    put_back_withheld,
    reason,
    stage_amounts,
    value,
    violations,
)
from llm_platform.warehouse.contracts import store_contract, stored_contract
from llm_platform.warehouse.engine import execute, identifier, literal, one_of
from llm_platform.warehouse.explain import explain
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.masking import hand_key, masked_select
from llm_platform.warehouse.schema import is_published, number_of, published_table
from llm_platform.warehouse.session import UPSTREAM, Session, Transaction
from llm_platform.warehouse.shares import route_of
from llm_platform.warehouse.stored_reasons import in_own_words
from llm_platform.warehouse.tallies import Tallies

VERSIONED = ("release_id", "variant", "status", "fingerprint", "answered_at", "confidence")
"""Columns that a data version is made of, beside answers; snapshots and times of equal rows stay as they were."""


PUBLISHED_NOW = "published"
"""Name under which it is kept what the last publication left."""


class TableState(NamedTuple):
    """What a published table says, in sums.

    Attributes:
        hash: Exclusive or of the hashes of its rows.
        held: The contract that every row was found to keep; None where they were not.
    """

    rows: int
    hash: str
    held: str | None = None

    def without(self, taken: tuple[Any, ...]) -> TableState:
        """The same without some rows, as `version_select` counts them."""
        return self._replace(rows=self.rows - taken[0], hash=str(int(self.hash) ^ int(taken[1])))

    def with_rows(self, put: tuple[Any, ...]) -> TableState:
        """The same with some more."""
        return self._replace(rows=self.rows + put[0], hash=str(int(self.hash) ^ int(put[1])))


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
        self,
        release_id: str,
        contract: int | Sequence[Contract],
        *,
        variant: str | None = None,
        routes: Sequence[Route] = (),
        retired: Collection[int] = (),
    ) -> RowsChanged:
        """Make every published table say what `release_id` answers, in one transaction.

        Every document has a row; one without a valid answer has NULL and the reason. Documents that left the source
        leave.

        Args:
            release_id: Answers.
            contract: Of each table; what has changed is counted in the first one. A number is that of a table whose
                answer is one text.
            variant: Its name, written on every row.
            routes: Challengers that publish a share, the oldest first; what one has not answered yet is the champion's.
            retired: Numbers of tables that are taken away.

        Raises:
            ContractBroken: a row would not keep a promise; nothing is written.
        """
        contracts = self._contracts(contract)
        served = Served(release_id, variant, tuple(routes))
        read_at, since, done, waiting = 0, None, [], 0

        def body(transaction: Transaction) -> None:
            nonlocal read_at, since, done, waiting
            read_at = _snapshot(transaction)
            since = self._since(transaction, served, contracts, until=read_at)
            _stage_wanted(transaction, served, only_changed=since is not None)
            before = 0 if since is None else (self._tallies.recall(PUBLISHED_NOW) or {}).get("waiting", 1)
            waiting = before + transaction.count("SELECT count(*) FROM wanted WHERE status = 'unanswered'")
            done = [_publish(transaction, one, None if since is None else since[one.number]) for one in contracts]
            for number in sorted(set(retired) & set(self.numbers())):
                transaction.drop(published_table(number))

        with self._session.cursor("publish in") as cursor:
            _, snapshot_id = self._session.sparingly(
                lambda: self._session.write(self._application, body, cursor=cursor)
            )
        # What is known from before goes on where nothing came of it: a run with nothing to do writes nothing.
        moved = (counts[kind] for counts, _ in done for kind in ("inserted", "updated", "deleted"))
        is_news = since is None or any(moved)
        if not routes and is_news:
            content = {
                "of": _made_by(served, contracts),
                "documents_at": read_at,
                "tables_at": snapshot_id,
                "waiting": waiting,
                "versions": {str(one.number): list(state) for one, (_, state) in zip(contracts, done, strict=True)},
            }
            self._tallies.remember(PUBLISHED_NOW, content)
        return RowsChanged(**done[0][0], snapshot_id=snapshot_id)

    def changed_since(self, served: Served, contracts: Sequence[Contract]) -> list[str] | None:
        """Keys of the documents that can differ from what is published; None where any of them may."""
        with self._session.cursor() as cursor:
            transaction = Transaction(self._session, cursor, self._application)
            if self._since(transaction, served, contracts, until=self._session.snapshot()) is None:
                return None
            return [row[0] for row in transaction.run("SELECT document_id FROM changed ORDER BY document_id")]

    def _since(
        self, transaction: Transaction, served: Served, contracts: Sequence[Contract], *, until: int
    ) -> dict[int, TableState] | None:
        """State of each table as it was published, with the documents that have changed since in the table `changed`.

        None where anything else may be different: then all rows are compared. Where every document that was published
        had an answer, what is published differs only where answers were taken away, or where a document has changed.
        """
        kept = self._tallies.recall(PUBLISHED_NOW)
        if kept is None or served.routes or self._session.has_upstream or kept["of"] != _made_by(served, contracts):
            return None
        answered = self._session.kinds_of_change(kept["documents_at"], self._application, "completions")
        if answered is None or answered - {"insert"} or not self._are_as_left(kept, contracts):
            return None
        # A document that was published without an answer may have got one, whatever became of the document.
        if answered and kept.get("waiting") != 0:
            return None
        states = {int(number): TableState(*state) for number, state in kept["versions"].items()}
        most = states[contracts[0].number].rows
        if not self._tallies.stage_changed(transaction.cursor, kept["documents_at"], until, most=most):
            return None
        return states

    def _are_as_left(self, kept: Mapping[str, Any], contracts: Sequence[Contract]) -> bool:
        kinds = (self._session.kinds_of_change(kept["tables_at"], self._application, one.table) for one in contracts)
        return all(found is not None and not found for found in kinds)

    def _state(self, contract: int) -> TableState | None:
        """What the last publication left of a table; None where it has been written since, or nothing is known."""
        kept = self._tallies.recall(PUBLISHED_NOW)
        if kept is None or str(contract) not in kept["versions"]:
            return None
        found = self._session.kinds_of_change(kept["tables_at"], self._application, published_table(contract))
        return TableState(*kept["versions"][str(contract)]) if found is not None and not found else None

    @property
    def _tallies(self) -> Tallies:
        return Tallies(self._session, self._application)

    def pending(
        self,
        release_id: str,
        contract: int | Sequence[Contract],
        *,
        variant: str | None = None,
        routes: Sequence[Route] = (),
    ) -> int:
        """How many rows of all tables `publish` would change."""
        with self._session.cursor() as cursor:
            # Never begun and never committed: the temporary tables are the cursor's own.
            transaction = Transaction(self._session, cursor, self._application)
            contracts, served = self._contracts(contract), Served(release_id, variant, tuple(routes))
            since = self._since(transaction, served, contracts, until=self._session.snapshot())
            _stage_wanted(transaction, served, only_changed=since is not None)
            counts = [_differences(transaction, one, only_changed=since is not None) for one in contracts]
        return sum(count[kind] for count in counts for kind in ("inserted", "updated", "deleted"))

    def count(self, contract: int) -> int:
        """How many rows readers get."""
        relation = self._session.relation(self._application, published_table(contract))
        return int(self._session.value(f"SELECT count(*) FROM {relation}"))

    def releases(self, contract: int) -> dict[str, int]:
        """Release → how many rows are by it."""
        relation = self._session.relation(self._application, published_table(contract))
        return dict(self._session.rows(f"SELECT release_id, count(*) FROM {relation} GROUP BY 1"))

    def first_key(self, contract: int) -> str:
        """The first key in their order, of a table that has rows."""
        relation = self._session.relation(self._application, published_table(contract))
        return str(self._session.value(f"SELECT document_id FROM {relation} ORDER BY document_id LIMIT 1"))

    def _contracts(self, contract: int | Sequence[Contract]) -> Sequence[Contract]:
        return [text_contract(contract, application=self._application)] if isinstance(contract, int) else contract

    def numbers(self) -> tuple[int, ...]:
        """Numbers of the published tables that there are, in order."""
        tables = filter(is_published, self._session.tables(self._application))
        return tuple(sorted(number_of(table) for table in tables))

    def present(self, contract: int) -> int:
        """Number of the table that readers have: this one, or the newest while no release fills this one yet."""
        numbers = self.numbers()
        return contract if contract in numbers or not numbers else numbers[-1]

    def columns(self, contract: int) -> frozenset[str]:
        """Columns that a published table has; none where there is no such table."""
        return self._session.columns(self._application, published_table(contract))

    def unanswered(self, served: Served) -> int:
        """How many sendable documents would have no answer."""
        with self._session.cursor() as cursor:
            transaction = Transaction(self._session, cursor, self._application)
            _stage_wanted(transaction, served, only_changed=False)
            return transaction.count("SELECT count(*) FROM wanted WHERE status = 'unanswered'")

    def changes_of_upstream(self, served: Served, contract: Contract) -> pa.Table:
        """Every row of upstream's published table that would be another one if `served` were published there.

        Judged on the documents that there are here. Columns document_id, change (`inserted`, `updated`, `deleted`), and
        status, release_id and answer as they are and would be; an answer of several columns is JSON.
        """
        with self._session.cursor() as cursor:
            transaction = Transaction(self._session, cursor, self._application)
            _stage_wanted(transaction, served, only_changed=False)
            _differences(transaction, contract, upstream=True)
            stage_amounts(transaction, contract)
            has = self._session.columns(self._application, contract.table, catalog=UPSTREAM)
            theirs = [identifier(one.name) for one in contract.answers if one.name in has]
            ours = [f"{value(one, contract)} AS {identifier(one.name)}" for one in contract.answers]
            before = _as_text([f"p.{name}" for name in theirs], theirs)
            names = [identifier(one.name) for one in contract.answers]
            after = _as_text([f"w.{name}" for name in names], names)
            return execute(
                cursor,
                "SELECT coalesce(w.document_id, p.document_id) AS document_id, CASE WHEN p.document_id IS NULL "
                "THEN 'inserted' WHEN w.document_id IS NULL THEN 'deleted' ELSE 'updated' END AS change, "
                "p.status AS status_before, w.status AS status_after, p.release_id AS release_id_before, "
                f"w.release_id AS release_id_after, {before} AS answer_before, {after} AS answer_after FROM ("
                f"SELECT w.document_id, w.status, w.release_id, {', '.join(ours)} FROM wanted w "
                f"SEMI JOIN difference USING (document_id) {joins(contract)}) w "
                f"FULL JOIN (SELECT * FROM {transaction.upstream(contract.table)} SEMI JOIN (SELECT document_id FROM "
                "difference UNION ALL SELECT document_id FROM gone) USING (document_id)) p USING (document_id) "
                "ORDER BY 1",
            ).to_arrow_table()

    def table(self, contract: int, *, at_snapshot: int | None = None) -> pa.Table:
        """The published rows in the order of their keys."""
        relation = self._session.relation(self._application, published_table(contract), at_snapshot=at_snapshot)
        return self._session.table(f"SELECT * FROM {relation} ORDER BY document_id")

    def query(self, sql: str, contracts: Sequence[Contract]) -> pa.Table:
        """The rows of a query that names published tables without their schema, and gets them as readers have them."""
        with self._session.cursor("query what is published in") as cursor:
            for one in contracts:
                relation = self._session.relation(self._application, one.table)
                hand_key(self._session, cursor, one, application=self._application)
                # Tables from before contracts were stored may have further columns.
                rows = masked_select(one, relation) if one.masks else f"SELECT * FROM {relation}"
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW {one.table} AS {rows}")
            return cursor.execute(sql).to_arrow_table()

    def data_version(self, contract: int) -> str:
        """Hash of what the table says, without snapshots and times."""
        if (state := self._state(contract)) is not None:
            return version_of((state.rows, state.hash))
        relation = self._session.relation(self._application, published_table(contract))
        columns = _versioned(self.columns(contract))
        return version_of(self._session.rows(version_select(columns, relation))[0])

    def violations(self, contract: Contract) -> list[str]:
        """What promises rows do not keep: one sentence a kind, with the number of rows and the first key.

        A publication holds every row that it writes to them, so a table that is as it left it keeps them.
        """
        state = self._state(contract.number)
        if state is not None and state.held == contract.content_id:
            return []
        relation = self._session.relation(self._application, contract.table)
        with self._session.cursor() as cursor:
            return _violations(Transaction(self._session, cursor, self._application), contract, relation)

    def completeness(self, contract: int) -> float:
        """Share of documents that have an answer; 1.0 without documents."""
        rows = self._session.relation(self._application, published_table(contract))
        return float(self._session.value(f"SELECT coalesce(avg((status = 'valid')::INT), 1.0) FROM {rows}"))

    def waiting_hours(self, contract: int, *, changed: Sequence[str] | None = None) -> float:
        """How long the oldest change of a document waits to be in the table; 0.0 where none does.

        With `changed`, of those only; see `changed_since`.
        """
        if contract not in self.numbers():
            return 0.0
        rows = self._session.relation(self._application, published_table(contract))
        documents = self._session.relation(self._application, "documents")
        if changed is not None:
            named = one_of("document_id", changed)
            rows, documents = (f"(SELECT * FROM {table} WHERE {named})" for table in (rows, documents))
        found = self._session.value(
            f"SELECT epoch(now() - min(d.updated_at)) / 3600 FROM {documents} d LEFT JOIN {rows} p USING (document_id) "
            "WHERE p.fingerprint IS DISTINCT FROM d.fingerprint"
        )
        return max(float(found or 0.0), 0.0)

    def explain(self, document_id: str, contract: int, *, with_texts: bool = False) -> dict[str, object]:
        """Everything that made one published row; texts, prompts' templates and raw answers only on request.

        Raises:
            ContractBroken: there is no such document, here or in the published table.
        """
        return explain(self._session, self._application, document_id, contract=contract, with_texts=with_texts)


def _made_by(served: Served, contracts: Sequence[Contract]) -> str:
    return content_hash([served.release_id, served.variant, [[one.number, one.content_id] for one in contracts]])


def _snapshot(transaction: Transaction) -> int:
    return transaction.count("SELECT id FROM lake.current_snapshot()")


def _versioned(stored: Collection[str]) -> list[str]:
    """What a data version is made of, of a table with these columns."""
    answers = sorted(set(stored) - set(TO_EVERY_READER)) if stored else [ANSWER]
    return [identifier(name) for name in (KEY, *VERSIONED, *answers, "reason")]


def _stage_wanted(transaction: Transaction, served: Served, *, only_changed: bool) -> None:
    """Fill the temporary table `wanted`: one row per document, with the stored answer.

    With `only_changed`, for the documents in the table `changed`.
    """
    changed = "JOIN changed USING (document_id) " if only_changed else ""
    # One table first: a document's place is computed once, and the joins below are equations.
    transaction.run(
        "CREATE OR REPLACE TEMP TABLE routed AS SELECT document_id, fingerprint, status, reason, withheld, "
        f"{route_of(served.routes)} AS route FROM {transaction.relation('documents')} {changed}WHERE origin IS NULL"
    )
    stored = transaction.answers_to("routed") if only_changed else None
    transaction.run(f"CREATE OR REPLACE TEMP TABLE wanted AS {_wanted(transaction, served, stored)}")
    put_back_withheld(transaction)


def _as_text(values: Sequence[str], names: Sequence[str]) -> str:
    """SQL of one text: the value itself, or JSON of several by name."""
    if len(values) == 1:
        return f"{values[0]}::VARCHAR"
    packed = ", ".join(f"{name} := {one}" for name, one in zip(names, values, strict=True))
    return f"to_json(struct_pack({packed}))::VARCHAR" if values else "NULL::VARCHAR"


def _differences(
    transaction: Transaction, contract: Contract, *, only_changed: bool = False, upstream: bool = False
) -> dict[str, int]:
    """Fill the temporary tables `difference` and `gone` of one table; returns how many rows each way.

    Args:
        only_changed: Compare rows of documents in the table `changed` only.
        upstream: Compare with the table of the namespace that this one stands on.
    """
    stored = transaction.upstream(contract.table) if upstream else transaction.relation(contract.table)
    if only_changed:
        transaction.run(
            f"CREATE OR REPLACE TEMP TABLE beside AS SELECT * FROM {stored} JOIN changed USING (document_id)"
        )
        stored = "beside"
    before = stored_contract(transaction, contract.number, upstream=upstream)
    has = transaction.columns(contract.table, upstream=upstream)
    # A column that is new, or filled from something else, gets a value in every row.
    refilled = (before is not None and before.filling != contract.filling) or not has.issuperset(
        one.name for one in contract.columns
    )
    changed = "true" if refilled else differs(contract)
    transaction.run(
        f"CREATE OR REPLACE TEMP TABLE difference AS SELECT w.document_id, p.document_id IS NULL AS is_new FROM "
        f"wanted w LEFT JOIN {stored} p USING (document_id) WHERE p.document_id IS NULL OR {changed}"
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


def _publish(
    transaction: Transaction, contract: Contract, before: TableState | None
) -> tuple[dict[str, int], TableState]:
    """Write one table; returns what changed, and its state after it.

    Args:
        before: Its state, where only documents in `changed` can be different; None where all are compared.
    """
    counts = _differences(transaction, contract, only_changed=before is not None)
    # Also without any row: readers find an empty table, and no contract without one.
    target = transaction.target(contract.table, {one.name: one.sql_type for one in contract.columns})
    columns = _versioned([one.name for one in contract.columns])
    moved = TableState(0, "0") if before is None else before
    if counts["inserted"] or counts["updated"] or counts["deleted"]:
        changed = "SELECT document_id FROM difference UNION ALL SELECT document_id FROM gone"
        transaction.changes_documents(contract.table, changed)
    if counts["updated"] or counts["deleted"]:
        transaction.run(
            "CREATE OR REPLACE TEMP TABLE leaving AS SELECT document_id FROM difference WHERE NOT is_new "
            "UNION ALL SELECT document_id FROM gone"
        )
        leaving = f"{target} WHERE {transaction.among('leaving')}"
        if before is not None:
            moved = moved.without(transaction.run(version_select(columns, f"(SELECT * FROM {leaving})"))[0])
        transaction.run(f"DELETE FROM {leaving}")
    if counts["inserted"] or counts["updated"]:
        stage_amounts(transaction, contract)
        answers = "".join(f"{value(one, contract)} AS {identifier(one.name)}, " for one in contract.answers)
        # Where every row is another one, as in a first publication, no memory is needed for their keys.
        different = "SEMI JOIN difference d USING (document_id) " if counts["unchanged"] else ""
        transaction.run(
            f"INSERT INTO {target} BY NAME SELECT w.document_id, {answers}w.confidence, w.release_id, w.variant, "
            f"w.answered_at, w.status, {reason(contract)} AS reason, w.fingerprint, $source::BIGINT AS "
            "source_snapshot, $documents::BIGINT AS documents_snapshot, now() AS published_at FROM wanted w "
            f"{different}{joins(contract)} ORDER BY w.document_id",
            {
                "source": _source_snapshot(transaction),
                "documents": _snapshot(transaction),
            },
        )
        all_new = before is None and not counts["unchanged"]
        written = target if all_new else f"(SELECT * FROM {target} WHERE {transaction.among('difference')})"
        if broken := _violations(transaction, contract, written):
            raise ContractBroken(
                f"{contract.application}.{contract.table}: nothing was published.\n" + "\n".join(broken)
            )
        if before is not None:
            moved = moved.with_rows(transaction.run(version_select(columns, written))[0])
    store_contract(transaction, contract)
    if before is None:
        state = TableState(*transaction.run(version_select(columns, target))[0])
        kept = not counts["unchanged"] or not _violations(transaction, contract, target)
        return counts, state._replace(held=contract.content_id if kept else None)
    counts["unchanged"] = moved.rows - counts["inserted"] - counts["updated"]
    return counts, moved


def _violations(transaction: Transaction, contract: Contract, relation: str) -> list[str]:
    found = list(violations(contract))
    counts = ", ".join(f"count(*) FILTER ({where}), min(document_id) FILTER ({where})" for _, where in found)
    row = transaction.run(f"SELECT count(*) - count(DISTINCT document_id), {counts} FROM {relation}")[0]
    doubled = [f"{row[0]} rows repeat a document."] if row[0] else []
    return doubled + [
        f"{row[1 + 2 * index]} rows {kind} (first: {row[2 + 2 * index]!r})."
        for index, (kind, _) in enumerate(found)
        if row[1 + 2 * index]
    ]


def _wanted(transaction: Transaction, served: Served, stored: str | None) -> str:
    """SQL for what readers are to get, from the table `routed`.

    Args:
        stored: What to read the answers from, where these are some of them only.
    """
    # As one equation: with a second condition on one side only, the engine compares every pair of rows.
    joins = [
        f"LEFT JOIN ({_answers(transaction, literal(served.release_id), stored)}) c "
        "ON c.fingerprint = CASE WHEN d.status = 'sendable' THEN d.fingerprint END"
    ]
    found = _columns("c", served.release_id, served.variant)
    for at, one in enumerate(served.routes):
        joins.append(
            f"LEFT JOIN ({_answers(transaction, literal(one.release_id), stored)}) c{at} "
            f"ON c{at}.fingerprint = CASE WHEN d.status = 'sendable' AND d.route = {at} THEN d.fingerprint END"
        )
        own = _columns(f"c{at}", one.release_id, one.variant)
        found = {name: f"CASE WHEN c{at}.status IS NOT NULL THEN {own[name]} ELSE {found[name]} END" for name in found}
    return (
        f"SELECT d.document_id, {found['answer']} AS answer, {found['confidence']} AS confidence, "
        f"{found['variant']} AS variant, {found['release_id']} AS release_id, "
        f"CASE WHEN ({found['answer']}) IS NOT NULL THEN {found['created_at']} END AS answered_at, "
        f"CASE WHEN d.status <> 'sendable' THEN d.status ELSE coalesce({found['status']}, 'unanswered') END AS status, "
        "CASE WHEN d.status <> 'sendable' THEN coalesce(d.reason, 'the document is ' || d.status) "
        f"WHEN ({found['status']}) IS NULL THEN 'no answer of this release is stored' "
        f"WHEN ({found['answer']}) IS NULL THEN coalesce({found['reason']}, 'the answer is ' || ({found['status']})) "
        f"ELSE {found['reason']} END AS reason, d.fingerprint, d.withheld FROM routed d {' '.join(joins)}"
    )


def _columns(alias: str, release_id: str, variant: str | None) -> dict[str, str]:
    named = "NULL::VARCHAR" if variant is None else literal(variant)
    answered = {name: f"{alias}.{name}" for name in ("answer", "confidence", "status", "reason", "created_at")}
    return {**answered, "release_id": literal(release_id), "variant": named}


def _answers(transaction: Transaction, release: str, stored: str | None) -> str:
    columns = f"fingerprint, status, answer, confidence, created_at, {in_own_words()} AS reason"
    if stored is not None:
        return f"SELECT {columns} FROM {stored} WHERE release_id = {release}"
    ours, theirs = transaction.relation("completions"), transaction.upstream("completions")
    return (
        f"SELECT {columns} FROM {ours} WHERE release_id = {release} UNION ALL "
        f"SELECT {columns} FROM {theirs} t WHERE release_id = {release} "
        f"AND NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.release_id = {release} AND o.fingerprint = t.fingerprint)"
    )


def _source_snapshot(transaction: Transaction) -> int | None:
    found = transaction.run(f"SELECT state FROM {transaction.relation('documents_consumed')}")
    return SourceState.model_validate_json(found[0][0]).snapshot_id if found else None
