"""What can be reviewed, held in memory beside the lake, so that the next document is found in milliseconds.

A commit of one verdict is a file of its own: reading a thousand of them back takes a second, and grouping 100,000
answers half a second. So keys, agreement and confidence of every text are copied once, and new verdicts are taken from
the lake's change feed. Texts and answers stay in the lake until a person opens a document.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from llm_platform.records import QueueProgress, ReviewQueue
from llm_platform.warehouse.annotations import (
    ADJUDICATION,
    LISTED,
    audit_rank_sql,
    checked_sql,
    decisions_sql,
    live_sql,
    opinions_sql,
)
from llm_platform.warehouse.engine import execute, identifier, json_pointer, literal
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session

FOLLOWED = ("documents", "completions", "references", "drift_flags", "labelling")
REBUILD_SECONDS = 60.0
"""A run that commits answers several times a second must not make every page wait for a new copy."""

ORDERS: dict[str, tuple[str, str]] = {
    "disagreements": ("(answers > 1 OR checked)", "rank"),
    "low_confidence": ("confidence IS NOT NULL", "confidence, rank"),
    "drift": ("novelty IS NOT NULL", "novelty DESC, rank"),
    "drawn": ("drawn", "rank"),
    "audit": ("true", "rank"),
    "slice": ("json_extract_string(attributes, $path) IS NOT DISTINCT FROM $value", "rank"),
    "mine": ("true", "rank"),
    "adjudication": ("true", "rank"),
}
"""Queue → which texts are in it, and in which order they come. Nothing is ordered by what a text says.

What differs comes in the random order of the audit, with a few texts on which all agree, so that what is labelled there
says how two variants differ on every text (`evaluation/deciding_labels.py`)."""


class ReviewItems:
    """Texts of one application that people can judge; follows the lake, and may be used by several threads."""

    def __init__(
        self, session: Session, application: str, *, second_opinions: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._application = application
        self._share = round(second_opinions * 10_000)
        self._clock = clock
        self._lock = threading.Lock()
        self._read_to: dict[str, int] = {}
        self._taken: int | None = None
        self._built: tuple[Any, ...] = ()
        self._built_at = -REBUILD_SECONDS
        self._annotations, self._items, self._opinions, self._standing = (
            f"memory.main.{identifier(f'review {table} of {application}')}"
            for table in ("annotations", "items", "opinions", "standing")
        )

    def refresh(self, releases: Sequence[str], *, whole_answers: bool) -> None:
        """Take in what was written since the last call.

        Args:
            releases: Whose answers are shown, the most important one first.
            whole_answers: Whether a person judges each answer anew (free text), or a document once.
        """
        with self._lock, self._session.cursor() as cursor:
            taken = self._taken
            self._take_annotations(cursor)
            state = (*releases, whole_answers, *self._states(cursor))
            if state != self._built and self._clock() - self._built_at >= REBUILD_SECONDS:
                self._build_items(cursor, releases, whole_answers=whole_answers)
                self._built, self._built_at, taken = state, self._clock(), None
            if taken is None or taken != self._taken:
                self._build_opinions(cursor, since=taken)

    def next(self, queue: ReviewQueue, reviewer: str, *, avoid: Collection[str] = ()) -> tuple[str, str] | None:
        """(document_id, fingerprint) of the first text in a queue that waits for this person; None when none does.

        Args:
            queue: Which one.
            reviewer: Whose turn it is.
            avoid: Fingerprints that somebody else is looking at.
        """
        where, order = self._waiting(queue)
        rows = self._session.rows(
            f"SELECT i.document_id, i.fingerprint FROM {self._items} i {self._with_standing()} WHERE {where} "
            f"AND NOT list_contains($avoid, i.fingerprint) ORDER BY {order} LIMIT 1",
            {**self._parameters(queue, reviewer), "avoid": list(avoid)},
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def progress(self, queue: ReviewQueue, reviewer: str) -> QueueProgress:
        """How far a queue is for one person."""
        where, _ = self._waiting(queue)
        member = ORDERS[queue.name][0]
        mine = "coalesce(list_contains(s.people, $reviewer), false)"
        if queue.name in ("mine", "adjudication"):
            member = where
        row = self._session.rows(
            f"SELECT count(*) FILTER ({member}), count(*) FILTER ({member} AND {mine}), count(*) FILTER ({where}) "
            f"FROM {self._items} i {self._with_standing()}",
            self._parameters(queue, reviewer),
        )[0]
        return QueueProgress(total=row[0], done=row[1], waiting=row[2])

    def values(self, attribute: str, *, most: int = 50) -> list[tuple[str | None, int]]:
        """Values of a document attribute with their number of texts, the commonest first."""
        return self._session.rows(
            f"SELECT json_extract_string(attributes, $path) AS value, count(*) AS texts FROM {self._items} "
            f"GROUP BY 1 ORDER BY texts DESC, value LIMIT {most:d}",
            {"path": json_pointer(attribute)},
        )

    def groups(self, *, by: str | None, before: int | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Decisions as they were made, the newest first, one row each; `number` is what `before` takes to page on.

        `replaced` says that the same person has decided about the same text again.
        """
        where = ["true"] + (['"by" = $by'] if by is not None else [])
        where += ["number < $before"] if before is not None else []
        table = self._session.table(
            "SELECT *, answers > 0 AND coalesce(bool_or(answers > 0 AND NOT undone) OVER ("
            'PARTITION BY "by", fingerprint ORDER BY number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING'
            f"), false) AS replaced FROM ({self._grouped()}) WHERE {' AND '.join(where)} "
            f"ORDER BY number DESC LIMIT {limit:d}",
            {key: value for key, value in {"by": by, "before": before}.items() if value is not None},
        )
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def document(self, document_id: str) -> dict[str, Any] | None:
        """One document as it is now: document_id, fingerprint, text, attributes (JSON); None when it is gone."""
        documents = self._session.relation(self._application, "documents")
        rows = self._session.table(
            f"SELECT document_id, fingerprint, text, attributes FROM {documents} WHERE document_id = ?", [document_id]
        ).to_pylist()
        return rows[0] if rows else None

    def answers(self, fingerprint: str, releases: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Release → its stored answer to one text: status, answer, confidence, reason."""
        found: dict[str, dict[str, Any]] = {}
        for catalog in (LAKE, UPSTREAM):
            relation = self._session.relation(self._application, "completions", catalog=catalog)
            for row in self._session.table(
                f"SELECT release_id, status, answer, confidence, reason FROM {relation} "
                "WHERE fingerprint = ? AND list_contains(?, release_id)",
                [fingerprint, list(releases)],
            ).to_pylist():
                found.setdefault(row["release_id"], row)
        return found

    def opinions(self, fingerprint: str) -> list[dict[str, Any]]:
        """What each person holds right for one text: by, answer, rejected, adjudicated, notes; the oldest first."""
        notes = f"SELECT * FROM ({live_sql(self._annotations)}) WHERE kind = 'note'"
        rows: list[dict[str, Any]] = self._session.table(
            f'SELECT o."by", o.answer, o.rejected, o.adjudicated, o."at", '
            f"(SELECT string_agg(n.body, ' / ' ORDER BY n.\"at\") FROM ({notes}) n "
            'WHERE n.fingerprint = o.fingerprint AND n."by" = o."by") AS notes '
            f'FROM {self._opinions} o WHERE o.fingerprint = $fingerprint ORDER BY o."at"',
            {"fingerprint": fingerprint},
        ).to_pylist()
        return rows

    def said(self, fingerprints: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Fingerprint → what people hold of the text now (by, answer, rejected), with what was said a moment ago."""
        with self._lock, self._session.cursor() as cursor:
            taken = self._taken
            self._take_annotations(cursor)
            if taken is None:
                self._taken = None  # `refresh` has not been asked yet, and begins with all of them
            elif taken != self._taken:
                self._build_opinions(cursor, since=taken)
        found: dict[str, list[dict[str, Any]]] = {}
        rows = self._session.table(
            f'SELECT fingerprint, "by", answer, rejected FROM ({opinions_sql(self._annotations)}) '
            'WHERE fingerprint IN (SELECT unnest(?::VARCHAR[])) ORDER BY "at"',
            [list(fingerprints)],
        )
        for row in rows.to_pylist():
            found.setdefault(row.pop("fingerprint"), []).append(row)
        return found

    def counts(self) -> dict[str, int]:
        """Basis of decisions on present texts → number of texts."""
        return dict(
            self._session.rows(
                f"SELECT s.basis, count(*) FROM {self._standing} s SEMI JOIN {self._items} i USING (fingerprint) "
                "GROUP BY 1 ORDER BY 1"
            )
        )

    def judged_by(self, reviewer: str) -> int:
        """How many texts a person has judged."""
        return int(self._session.value(f'SELECT count(*) FROM {self._opinions} WHERE "by" = ?', [reviewer]))

    def reference(self, fingerprint: str) -> str | None:
        """The answer that the table of known answers has for a text."""
        found: str | None = self._session.value(
            f"SELECT reference FROM {self._items} WHERE fingerprint = ?", [fingerprint]
        )
        return found

    def first_verdicts(self) -> pa.Table:
        """Verdicts that people gave before they saw what others had said: each person's first on each text, by answer
        judged. Columns: by, document_id, fingerprint, judged, verdict, answer, blind, at."""
        return self._session.table(
            f'SELECT "by", document_id, fingerprint, judged, verdict, answer, blind, "at" '
            f"FROM ({live_sql(self._annotations)}) "
            f"WHERE kind = 'verdict' AND coalesce(queue, '') NOT IN ('mine', 'answers', '{ADJUDICATION}') "
            'QUALIFY dense_rank() OVER (PARTITION BY document_id, fingerprint, "by" ORDER BY "at", group_id) = 1 '
            'ORDER BY fingerprint, "by", judged'
        )

    def _waiting(self, queue: ReviewQueue) -> tuple[str, str]:
        member, order = ORDERS[queue.name]
        if queue.name == "mine":
            return self._disputed(), order
        if queue.name == "adjudication":
            return self._undecided(), order
        # Whoever has not seen every answer that is shown now (free text only) has not judged the text.
        judged = "coalesce(list_contains(s.judges, $reviewer), false)"
        wanted = f"CASE WHEN i.lot < {self._share:d} THEN 2 ELSE 1 END"
        return f"{member} AND NOT {judged} AND coalesce(len(s.judges), 0) < {wanted}", order

    def _disputed(self) -> str:
        """Somebody has since said something else than this person, and nobody has decided."""
        apart = (
            "m.answer IS DISTINCT FROM o.answer AND m.answer IS NOT NULL AND o.answer IS NOT NULL "
            "OR list_contains(o.rejected, m.answer) OR list_contains(m.rejected, o.answer)"
        )
        return (
            "s.basis <> 'adjudicated' AND list_contains(s.people, $reviewer) AND i.fingerprint IN ("
            f"SELECT m.fingerprint FROM {self._opinions} m JOIN {self._opinions} o USING (fingerprint) "
            f'WHERE m."by" = $reviewer AND o."by" <> $reviewer AND o."at" > m."at" AND ({apart}))'
        )

    def _undecided(self) -> str:
        """People disagree with each other, or with the table of known answers."""
        return (
            "$reviewer IS NOT NULL AND (s.basis = 'opposed' OR "
            "(s.basis = 'unopposed' AND i.reference IS NOT NULL AND i.reference <> s.answer))"
        )

    def _with_standing(self) -> str:
        return f"LEFT JOIN {self._standing} s ON s.fingerprint = i.fingerprint"

    @staticmethod
    def _parameters(queue: ReviewQueue, reviewer: str) -> dict[str, Any]:
        parameters: dict[str, Any] = {"reviewer": reviewer}
        if queue.name == "slice":
            parameters |= {"path": json_pointer(queue.attribute or ""), "value": queue.value}
        return parameters

    def _grouped(self) -> str:
        undone = f"SELECT undoes FROM {self._annotations} WHERE kind = 'undo'"
        return (
            'SELECT group_id, min(number) AS number, any_value("by") AS "by", any_value(role) AS role, '
            'min("at") AS "at", any_value(queue) AS queue, bool_or(blind) AS blind, '
            "any_value(document_id) AS document_id, any_value(fingerprint) AS fingerprint, "
            "list(DISTINCT verdict) FILTER (kind = 'verdict') AS verdicts, "
            "count(*) FILTER (kind = 'verdict') AS answers, "
            "bool_or(answer IS NOT NULL) AS answered, max(answer) AS answer, "
            "list(DISTINCT judged) FILTER (verdict IN ('wrong', 'corrected') AND judged IS NOT NULL) AS rejected, "
            "list(body) FILTER (kind = 'tag') AS tags, count(*) FILTER (kind = 'note') AS notes, "
            f"group_id IN ({undone}) AS undone FROM {self._annotations} "
            "WHERE kind <> 'undo' AND document_id IS NOT NULL GROUP BY group_id"
        )

    def _take_annotations(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Append to the copy what was committed since; read all of it where the change feed no longer says."""
        for catalog in (LAKE, UPSTREAM) if self._session.has_upstream else (LAKE,):
            now = cursor.execute(f"SELECT id FROM {catalog}.current_snapshot()").fetchall()[0][0]
            before = self._read_to.get(catalog)
            if before == now:
                continue
            if before is None:
                self._take_all(cursor, catalog)
            elif self._session.exists(self._application, "annotations", catalog=catalog):
                self._take_new(cursor, catalog, before, now)
            self._read_to[catalog] = now
        self._taken = self._last_number(cursor)

    def _last_number(self, cursor: duckdb.DuckDBPyConnection) -> int:
        return int(cursor.execute(f"SELECT coalesce(max(number), 0) FROM {self._annotations}").fetchall()[0][0])

    def _take_all(self, cursor: duckdb.DuckDBPyConnection, catalog: str) -> None:
        relation = self._session.relation(self._application, "annotations", catalog=catalog)
        if not self._read_to:
            none = f"SELECT 0::BIGINT AS number, {LISTED} FROM {relation} LIMIT 0"
            cursor.execute(f"CREATE OR REPLACE TABLE {self._annotations} AS {none}")
        self._insert(cursor, relation, order='"at", annotation_id')

    def _take_new(self, cursor: duckdb.DuckDBPyConnection, catalog: str, before: int, now: int) -> None:
        names = f"{literal(catalog)}, {literal(self._application)}, 'annotations'"
        try:
            feed = f"ducklake_table_insertions({names}, {before + 1:d}, {now:d})"
            self._insert(cursor, feed, order='snapshot_id, "at", annotation_id')
        except duckdb.Error:
            # The page stood open while a compaction forgot those snapshots.
            self._take_all(cursor, catalog)

    def _insert(self, cursor: duckdb.DuckDBPyConnection, rows: str, *, order: str) -> None:
        cursor.execute(
            f"INSERT INTO {self._annotations} "
            f"SELECT {self._last_number(cursor):d} + row_number() OVER (ORDER BY {order}), {LISTED} "
            f"FROM {rows} WHERE annotation_id NOT IN (SELECT annotation_id FROM {self._annotations})"
        )

    def _states(self, cursor: duckdb.DuckDBPyConnection) -> list[Any]:
        """What changes when a followed table does, read from the catalog alone."""
        states: list[Any] = []
        for catalog in (LAKE, UPSTREAM) if self._session.has_upstream else (LAKE,):
            tables, schemas = (
                self._session.metadata(name, catalog=catalog) for name in ("ducklake_table", "ducklake_schema")
            )
            followed = (
                f"SELECT t.table_id FROM {tables} t JOIN {schemas} s USING (schema_id) WHERE t.end_snapshot IS NULL "
                f"AND s.schema_name = {literal(self._application)} AND t.table_name IN "
                f"({', '.join(map(literal, FOLLOWED))})"
            )
            for name in ("ducklake_data_file", "ducklake_delete_file"):
                files = self._session.metadata(name, catalog=catalog)
                states += cursor.execute(
                    f"SELECT count(*), max(begin_snapshot), max(end_snapshot) FROM {files} "
                    f"WHERE table_id IN ({followed})"
                ).fetchall()
        return states

    def _build_items(self, cursor: duckdb.DuckDBPyConnection, releases: Sequence[str], *, whole_answers: bool) -> None:
        relation = self._session.relation
        documents = relation(self._application, "documents")
        ours = relation(self._application, "completions")
        theirs = relation(self._application, "completions", catalog=UPSTREAM)
        shown = "release_id IN (SELECT unnest($releases))"
        columns = "release_id, fingerprint, status, answer, confidence"
        hashes = "list(DISTINCT hash(coalesce(answer, '')))" if whole_answers else "NULL::UBIGINT[]"
        execute(
            cursor,
            f"""
            CREATE OR REPLACE TABLE {self._items} AS
            WITH answers AS (
                SELECT {columns} FROM {ours} WHERE {shown} UNION ALL
                SELECT {columns} FROM {theirs} t WHERE {shown} AND NOT EXISTS (
                    SELECT 1 FROM {ours} o WHERE o.release_id = t.release_id AND o.fingerprint = t.fingerprint)
            ),
            together AS (
                SELECT fingerprint, count(DISTINCT coalesce(answer, '')) AS answers,
                    arg_min(confidence, list_position($releases, release_id)) AS confidence, {hashes} AS hashes
                FROM answers GROUP BY fingerprint
            )
            SELECT d.fingerprint, min(d.document_id) AS document_id, arg_min(d.attributes, d.document_id) AS attributes,
                any_value(t.answers) AS answers, any_value(t.confidence) AS confidence, any_value(t.hashes) AS hashes,
                {audit_rank_sql("d.fingerprint")} AS rank,
                (md5_number('lot:' || d.fingerprint) % 10000)::INTEGER AS lot,
                {checked_sql("d.fingerprint")} AS checked,
                min(r.answer) AS reference, max(n.novelty) AS novelty, bool_or(l.fingerprint IS NOT NULL) AS drawn
            FROM {documents} d JOIN together t ON t.fingerprint = d.fingerprint
            LEFT JOIN {relation(self._application, "references")} r ON r.document_id = d.document_id
            LEFT JOIN (SELECT fingerprint, max(novelty) AS novelty FROM {relation(self._application, "drift_flags")}
                GROUP BY 1) n ON n.fingerprint = d.fingerprint
            LEFT JOIN (SELECT DISTINCT fingerprint FROM {relation(self._application, "labelling")} WHERE selected) l
                ON l.fingerprint = d.fingerprint
            WHERE d.status = 'sendable' GROUP BY d.fingerprint
            """,
            {"releases": list(releases)},
        )

    def _build_opinions(self, cursor: duckdb.DuckDBPyConnection, *, since: int | None) -> None:
        """Say anew what people hold of each text; of those alone that rows after number `since` are about, if given."""
        rows = self._annotations
        if since is None:
            cursor.execute(f"CREATE OR REPLACE TABLE {self._opinions} AS {self._opinions_of(rows)}")
            cursor.execute(f"CREATE OR REPLACE TABLE {self._standing} AS {self._standing_of(rows, self._opinions)}")
            return
        new = f"(SELECT * FROM {rows} WHERE number > {since:d})"
        undone = f"SELECT a.fingerprint FROM {rows} a JOIN {new} u ON u.undoes = "
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE touched AS SELECT fingerprint FROM {new} WHERE fingerprint IS NOT NULL "
            f"UNION {undone} a.group_id UNION {undone} a.annotation_id"
        )
        touched = "fingerprint IN (SELECT fingerprint FROM touched)"
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE about AS SELECT * FROM {rows} WHERE kind = 'undo' OR {touched}")
        cursor.begin()
        for table in (self._opinions, self._standing):
            cursor.execute(f"DELETE FROM {table} WHERE {touched}")
        cursor.execute(f"INSERT INTO {self._opinions} {self._opinions_of('about')}")
        opinions = f"(SELECT * FROM {self._opinions} WHERE {touched})"
        cursor.execute(f"INSERT INTO {self._standing} {self._standing_of('about', opinions)}")
        cursor.commit()

    def _opinions_of(self, rows: str) -> str:
        """What each person holds of each text, and whether the person has judged every answer that is shown now."""
        return (
            "SELECT o.*, coalesce(i.hashes IS NULL OR list_has_all(h.judged, i.hashes), true) AS complete FROM "
            f"({opinions_sql(rows)}) o JOIN ("
            "SELECT fingerprint, \"by\", list(DISTINCT hash(coalesce(judged, ''))) AS judged "
            f"FROM ({live_sql(rows)}) WHERE kind = 'verdict' GROUP BY ALL) h "
            f'ON h.fingerprint = o.fingerprint AND h."by" = o."by" LEFT JOIN {self._items} i '
            "ON i.fingerprint = o.fingerprint"
        )

    def _standing_of(self, rows: str, opinions: str) -> str:
        """One row per text: who has judged it, who of them has seen every answer, and what holds."""
        return (
            'SELECT o.fingerprint, list(DISTINCT o."by") AS people, '
            'coalesce(list(DISTINCT o."by") FILTER (o.complete), []) AS judges, '
            "any_value(d.basis) AS basis, any_value(d.answer) AS answer "
            f"FROM {opinions} o JOIN ({decisions_sql(rows)}) d USING (document_id, fingerprint) GROUP BY o.fingerprint"
        )
