"""What of some documents is in the tables of one application, and taking it out of them.

A document leaves more than its row: answers under the fingerprint of its text, of its parts and of what judges were
asked; grades, published rows, what people said, examples for prompts and for training, requests of people's own code
that quote it, and reports that name it. Rows of others stay as they are; where two documents have one text, its answers
stay with the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from llm_platform.records import Prompt
from llm_platform.records.forgetting import Bar, TableMeasure, Traces
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.calls import SCHEMA as PLATFORM
from llm_platform.warehouse.engine import identifier
from llm_platform.warehouse.schema import columns_of
from llm_platform.warehouse.session import Session, Transaction

SHARED = ("completions", "retried_completions")
"""Tables whose rows belong to every document that has the text."""

QUOTING = {
    "prompts": "content",
    "releases": "content",
    "reports": "report",
    "drift_reports": "report",
    "judge_agreements": "content",
    "adapter_reports": "content",
    "training_sets": "data",
}
"""Tables of JSON that may quote a document or name it, and stand for more than it: they are mended, not removed."""

BY_DOCUMENT = "t.document_id IN (SELECT document_id FROM forget_ids)"
BY_TEXT = "t.fingerprint IN (SELECT fingerprint FROM forget_fingerprints)"
SHORTEST = 12
"""Characters from which a text is searched for within others; a shorter one has to be the whole of a value."""
FORGOTTEN = "[forgotten]"
NAMED_IN = ("document_id", "document_ids", "documents", "flagged", "subject_id")


class ApplicationTraces:
    """Traces of documents in one application of one namespace."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def find(self, document_ids: Sequence[str]) -> Traces:
        """What there is, without changing anything."""
        with self._session.cursor("look for documents in") as cursor:
            self._stage(cursor, document_ids, ())
            fingerprints = self._fingerprints(cursor)
            texts = self._texts(cursor)
            self._stage(cursor, document_ids, fingerprints)
            quotes = Quotes(document_ids, fingerprints, texts)
            return Traces(
                fingerprints=tuple(sorted(fingerprints)),
                texts=tuple(sorted(texts)),
                tables=self._measured(cursor, quotes),
                adapters=tuple(self._adapters(cursor)),
                releases=tuple(self._showing(cursor, quotes)),
            )

    def named(self, document_ids: Sequence[str]) -> set[str]:
        """Those of some documents that any table names."""
        with self._session.cursor("look for documents in") as cursor:
            self._stage(cursor, document_ids, ())
            keyed = [name for name in self._tables() if "document_id" in (columns_of(name) or {})]
            named = (f"SELECT t.document_id FROM {self._relation(table)} t WHERE {BY_DOCUMENT}" for table in keyed)
            rows = cursor.execute(" UNION ".join(named)).fetchall() if keyed else []
        return {row[0] for row in rows}

    def measure(self, document_ids: Sequence[str], traces: Traces) -> dict[str, TableMeasure]:
        """The tables now, for what was found before."""
        with self._session.cursor("measure tables of") as cursor:
            quotes = self._staged(cursor, document_ids, traces)
            return self._measured(cursor, quotes, also=traces.tables)

    def remove(self, document_ids: Sequence[str], traces: Traces, *, barred: pa.Table, bars: Sequence[Bar]) -> None:
        """Take all of it out of the tables, and bar what must not come back, in one transaction.

        Args:
            barred: Rows of `forgotten`: the documents, by a hash of theirs.
            bars: Adapters and releases that may not be promoted.
        """

        def body(transaction: Transaction) -> None:
            for table in self._tables():
                self._remove_from(transaction, table, quotes)
            if "tallies" in self._tables():
                # Sums over rows that are gone; whoever needs them counts anew.
                transaction.run(f"DELETE FROM {transaction.target('tallies')}")
            _append(transaction, "forgotten", barred, key=("subject",))
            rows = pa.Table.from_pylist([bar.model_dump() for bar in bars], schema=arrow_schema("bars"))
            _append(transaction, "bars", rows, key=("kind", "subject", "request_id"))

        with self._session.cursor("forget documents in") as cursor:
            quotes = self._staged(cursor, document_ids, traces)
            self._session.write(self._application, body, cursor=cursor)
        calls = self._quoting_calls(quotes)
        if calls:
            self._session.write(PLATFORM, lambda transaction: _remove_calls(transaction, calls))

    def _tables(self) -> list[str]:
        return self._session.tables(self._application)

    def _stage(
        self, cursor: duckdb.DuckDBPyConnection, document_ids: Collection[str], fingerprints: Collection[str]
    ) -> None:
        for name, column, values in (
            ("forget_ids", "document_id", document_ids),
            ("forget_fingerprints", "fingerprint", fingerprints),
        ):
            given = pa.table({column: pa.array(sorted(set(values)), pa.string())})
            cursor.register("given_to_forget", given)
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given_to_forget")
            cursor.unregister("given_to_forget")

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)

    def _fingerprints(self, cursor: duckdb.DuckDBPyConnection) -> set[str]:
        keyed = [name for name in self._tables() if {"document_id", "fingerprint"} <= (columns_of(name) or {}).keys()]
        found: set[str] = set()
        for table in keyed:
            rows = cursor.execute(
                f"SELECT DISTINCT t.fingerprint FROM {self._relation(table)} t "
                f"WHERE {BY_DOCUMENT} AND t.fingerprint IS NOT NULL"
            ).fetchall()
            found.update(row[0] for row in rows)
        return self._with_parts(cursor, found - self._living(cursor, found))

    def _living(self, cursor: duckdb.DuckDBPyConnection, found: Collection[str]) -> set[str]:
        """Those of some fingerprints whose text another document of this namespace has."""
        self._stage_fingerprints(cursor, found)
        rows = cursor.execute(
            f"SELECT DISTINCT t.fingerprint FROM {self._relation('documents')} t WHERE {BY_TEXT} AND NOT {BY_DOCUMENT}"
        ).fetchall()
        return {row[0] for row in rows}

    def _staged(self, cursor: duckdb.DuckDBPyConnection, document_ids: Sequence[str], traces: Traces) -> Quotes:
        """Make temporary tables of what is to go from this namespace: another one may not have who has a text, too."""
        self._stage(cursor, document_ids, ())
        fingerprints = set(traces.fingerprints) - self._living(cursor, traces.fingerprints)
        self._stage(cursor, document_ids, fingerprints)
        return Quotes(document_ids, fingerprints, traces.texts)

    def _with_parts(self, cursor: duckdb.DuckDBPyConnection, found: set[str]) -> set[str]:
        """With the fingerprints of parts that no other document has."""
        relation = self._relation("made_of")
        part_of_it = "t.of_fingerprint IN (SELECT fingerprint FROM forget_parts)"
        while found:
            self._stage_fingerprints(cursor, found)
            rows = cursor.execute(f"SELECT DISTINCT t.of_fingerprint FROM {relation} t WHERE {BY_TEXT}").fetchall()
            parts = {row[0] for row in rows} - found
            self._stage_fingerprints(cursor, parts, "forget_parts")
            rows = cursor.execute(
                f"SELECT DISTINCT t.of_fingerprint FROM {relation} t WHERE {part_of_it} AND NOT {BY_TEXT}"
            ).fetchall()
            parts -= {row[0] for row in rows}
            if not parts:
                break
            found |= parts
        return found

    def _stage_fingerprints(
        self, cursor: duckdb.DuckDBPyConnection, found: Collection[str], name: str = "forget_fingerprints"
    ) -> None:
        cursor.register("given_to_forget", pa.table({"fingerprint": pa.array(sorted(found), pa.string())}))
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given_to_forget")
        cursor.unregister("given_to_forget")

    def _texts(self, cursor: duckdb.DuckDBPyConnection) -> set[str]:
        found: set[str] = set()
        for table in ("documents", "example_pools"):
            if table in self._tables():
                sql = f"SELECT DISTINCT text FROM {self._relation(table)} t WHERE {BY_DOCUMENT} AND text IS NOT NULL"
                found.update(row[0] for row in cursor.execute(sql).fetchall())
        return found

    def _measured(
        self, cursor: duckdb.DuckDBPyConnection, quotes: Quotes, *, also: Collection[str] = ()
    ) -> dict[str, TableMeasure]:
        measured = {}
        for table in self._tables():
            name = f"{self._application}.{table}"
            if table in QUOTING:
                found = len(self._quoting(cursor, table, quotes))
                if found or name in also:
                    total = _count(cursor, f"SELECT count(*) FROM {self._relation(table)}")
                    measured[name] = TableMeasure(found=found, kept=total, digest="")
                continue
            where = self._where(table)
            if where is None:
                continue
            found = _count(cursor, f"SELECT count(*) FROM {self._relation(table)} t WHERE {where}")
            if found or name in also:
                kept, digest = _digest(cursor, self._relation(table), where, table=table)
                measured[name] = TableMeasure(found=found, kept=kept, digest=digest)
        calls = self._quoting_calls(quotes)
        if calls or f"{PLATFORM}.calls" in also:
            total = int(self._session.value(f"SELECT count(*) FROM {self._session.relation(PLATFORM, 'calls')}"))
            measured[f"{PLATFORM}.calls"] = TableMeasure(found=len(calls), kept=total - len(calls), digest="")
        return measured

    def _where(self, table: str) -> str | None:
        """SQL that holds for rows that are to go; None for tables that know no documents."""
        columns = (columns_of(table) or {}).keys()
        if table == "made_of":
            return f"({BY_TEXT} OR t.of_fingerprint IN (SELECT fingerprint FROM forget_fingerprints))"
        if table == "annotations":
            said = (
                f"({BY_DOCUMENT} OR {BY_TEXT} OR t.subject_id IN (SELECT document_id FROM forget_ids) "
                "OR (contains(t.subject_id, '/') AND t.subject_kind = 'answer' AND "
                "substr(t.subject_id, position('/' IN t.subject_id) + 1) IN (SELECT document_id FROM forget_ids)))"
            )
            undone = f"SELECT t.group_id FROM {self._relation(table)} t WHERE {said}"
            return f"coalesce({said} OR t.undoes IN ({undone}), false)"
        conditions = [
            sql for column, sql in (("document_id", BY_DOCUMENT), ("fingerprint", BY_TEXT)) if column in columns
        ]
        if table in SHARED:
            # A row of a text that another document has, too, is given to that one.
            conditions = [BY_TEXT]
        return f"coalesce({' OR '.join(conditions)}, false)" if conditions else None

    def _remove_from(self, transaction: Transaction, table: str, quotes: Quotes) -> None:
        if table in QUOTING:
            mended = self._quoting(transaction.cursor, table, quotes)
            if mended:
                _mend(transaction, table, mended)
            return
        where = self._where(table)
        if where is None:
            return
        relation = transaction.relation(table)
        if transaction.count(f"SELECT count(*) FROM {relation} t WHERE {where}"):
            transaction.run(f"DELETE FROM {transaction.target(table)} t WHERE {where}")
        if table in SHARED and transaction.count(f"SELECT count(*) FROM {relation} t WHERE {BY_DOCUMENT}"):
            others = (
                f"SELECT fingerprint, min(document_id) AS document_id FROM {transaction.relation('documents')} "
                "WHERE document_id NOT IN (SELECT document_id FROM forget_ids) GROUP BY fingerprint"
            )
            transaction.run(
                f"UPDATE {transaction.target(table)} t SET document_id = o.document_id FROM ({others}) o "
                f"WHERE o.fingerprint = t.fingerprint AND {BY_DOCUMENT}"
            )

    def _quoting(self, cursor: duckdb.DuckDBPyConnection, table: str, quotes: Quotes) -> dict[str, str]:
        """Stored JSON → the same without what is to be forgotten, of those that have any of it."""
        column = QUOTING[table]
        if table not in self._tables():
            return {}
        rows = cursor.execute(f"SELECT DISTINCT {column} FROM {self._relation(table)} t").fetchall()
        return {row[0]: mended for row in rows if row[0] and (mended := quotes.mended(row[0])) is not None}

    def _quoting_calls(self, quotes: Quotes) -> list[str]:
        if not self._session.exists(PLATFORM, "calls") or not quotes.texts:
            return []
        relation = self._session.relation(PLATFORM, "calls")
        rows = self._session.rows(f"SELECT call_id, request, response, answer, error FROM {relation}")
        return [row[0] for row in rows if any(value and quotes.holds(value) for value in row[1:])]

    def _adapters(self, cursor: duckdb.DuckDBPyConnection) -> list[str]:
        if not {"training_examples", "adapters"} <= set(self._tables()):
            return []
        trained = cursor.execute(
            f"SELECT DISTINCT content_hash FROM {self._relation('training_examples')} t WHERE {BY_DOCUMENT}"
        ).fetchall()
        hashes = {row[0] for row in trained}
        rows = cursor.execute(f"SELECT adapter_id, manifest FROM {self._relation('adapters')}").fetchall()
        return sorted({key for key, manifest in rows if _trained_on(manifest) in hashes})

    def _showing(self, cursor: duckdb.DuckDBPyConnection, quotes: Quotes) -> list[str]:
        """Releases whose prompts show a document as an example, frozen in them or drawn from a pool."""
        if "releases" not in self._tables():
            return []
        pools: set[str] = set()
        if "example_pools" in self._tables():
            sql = f"SELECT DISTINCT pool FROM {self._relation('example_pools')} t WHERE {BY_DOCUMENT} OR {BY_TEXT}"
            pools = {row[0] for row in cursor.execute(sql).fetchall()}
        rows = cursor.execute(f"SELECT release_id, content FROM {self._relation('releases')}").fetchall()
        drawn = {key for key, content in rows if any(pool in content for pool in pools)}
        return sorted(drawn | {key for key, content in rows if quotes.mended(content) is not None})


class Quotes:
    """Recognizes documents in JSON and in words."""

    def __init__(self, document_ids: Iterable[str], fingerprints: Iterable[str], texts: Iterable[str]) -> None:
        self.document_ids = frozenset(document_ids)
        self.fingerprints = frozenset(fingerprints)
        self.texts = tuple(sorted({_plain(text) for text in texts} - {""}, key=len, reverse=True))
        self._whole = frozenset(self.texts)
        self._long = tuple(text for text in self.texts if len(text) >= SHORTEST)

    def in_words(self, value: str) -> bool:
        """Whether a value is one of the texts, or quotes one."""
        said = _plain(value)
        return said in self._whole or any(text in said for text in self._long)

    def holds(self, content: str) -> bool:
        """Whether any value of some JSON, or the words themselves, are or quote one of the texts."""
        found = _read(content)
        return self.in_words(content) if found is None else any(map(self.in_words, _values(found)))

    def mended(self, content: str) -> str | None:
        """Some JSON without them; None where there is nothing of them in it."""
        found = _read(content)
        if found is None:
            return FORGOTTEN if self.in_words(content) else None
        mended = self._without(found)
        if mended == found:
            return None
        _keep_versions(found, mended)
        return json.dumps(mended, ensure_ascii=False, separators=(",", ":"))

    def _without(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._without(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [self._without(one, key) for one in value if not self._is_about(one, key)]
        if isinstance(value, str) and (self.in_words(value) or self._is_about(value, key)):
            return FORGOTTEN
        return value

    def _is_about(self, value: Any, key: str) -> bool:
        if isinstance(value, dict):
            return value.get("document_id") in self.document_ids or value.get("fingerprint") in self.fingerprints
        return isinstance(value, str) and (
            value in self.fingerprints or (key in NAMED_IN and value in self.document_ids)
        )


def _trained_on(manifest: str) -> str | None:
    found: str | None = (json.loads(manifest).get("data") or {}).get("content_hash")
    return found


def _read(content: str) -> Any:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, (dict, list)) else None


def _keep_versions(before: Any, after: Any) -> None:
    """Let prompts keep the version under which they and their releases are known: answers are stored under those."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return
    if {"messages", "examples"} <= before.keys() and before != after:
        after["mended"] = Prompt.model_validate(before).version
    for name, value in before.items():
        _keep_versions(value, after.get(name))


def _values(found: Any) -> Iterable[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        for one in found.values():
            yield from _values(one)
    elif isinstance(found, list):
        for one in found:
            yield from _values(one)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _count(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(cursor.execute(sql).fetchall()[0][0])


def _digest(cursor: duckdb.DuckDBPyConnection, relation: str, where: str, *, table: str) -> tuple[int, str]:
    """(rows that stay, a digest of their content whatever their order)."""
    stored = [row[0] for row in cursor.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    # Who else has a text is no content of its answer, and changes where the first of them goes.
    columns = sorted(name for name in stored if table not in SHARED or name != "document_id")
    content = ", ".join(f"coalesce(t.{identifier(name)}::VARCHAR, chr(0))" for name in columns)
    found = cursor.execute(
        f"SELECT count(*), sum(md5_number_lower(concat_ws(chr(31), {content}))) FROM {relation} t WHERE NOT {where}"
    ).fetchall()[0]
    return int(found[0]), f"{found[1] or 0:x}"


def _mend(transaction: Transaction, table: str, mended: dict[str, str]) -> None:
    column = QUOTING[table]
    transaction.cursor.register("mended_to_forget", pa.table({"before": list(mended), "after": list(mended.values())}))
    transaction.run("CREATE OR REPLACE TEMP TABLE forget_mended AS SELECT * FROM mended_to_forget")
    transaction.cursor.unregister("mended_to_forget")
    transaction.run(
        f"UPDATE {transaction.target(table)} t SET {column} = m.after FROM forget_mended m WHERE t.{column} = m.before"
    )


def _append(transaction: Transaction, table: str, rows: pa.Table, *, key: Sequence[str]) -> None:
    if not rows.num_rows:
        return
    transaction.cursor.register("rows_to_append", rows)
    transaction.run("CREATE OR REPLACE TEMP TABLE forget_appended AS SELECT * FROM rows_to_append")
    transaction.cursor.unregister("rows_to_append")
    same = " AND ".join(f"s.{identifier(name)} = a.{identifier(name)}" for name in key)
    listed = ", ".join(identifier(name) for name in rows.column_names)
    stored = transaction.relation(table)
    new = f"FROM forget_appended a WHERE NOT EXISTS (SELECT 1 FROM {stored} s WHERE {same})"
    if transaction.count(f"SELECT count(*) {new}"):
        transaction.run(f"INSERT INTO {transaction.target(table)} ({listed}) SELECT {listed} {new}")


def _remove_calls(transaction: Transaction, calls: list[str]) -> None:
    transaction.run(
        f"DELETE FROM {transaction.target('calls')} WHERE call_id IN (SELECT unnest($calls::VARCHAR[]))",
        {"calls": calls},
    )
