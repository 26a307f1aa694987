"""`drift_reports` and `drift_flags`: how live documents differ from those before; `labelling`: which were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from llm_platform.records.tables import FLAGS_SCHEMA, LABELLING_SCHEMA
from llm_platform.warehouse.engine import execute, literal, one_of
from llm_platform.warehouse.kept_rows import KeptRows
from llm_platform.warehouse.looked_up import MOST_TEXTS
from llm_platform.warehouse.schema import NEWEST_FIRST, listed
from llm_platform.warehouse.session import UPSTREAM, Session, Transaction
from llm_platform.warehouse.tallies import Tallies

DRAWN, WINDOW = "drift", "window"
"""Names under which it is kept which texts stand for those of before, and what they and their answers say."""
CHARACTERS = 4_000


RANKS, SPARE = 2**128, 4
"""How many ranks there are, and of how many times the draw the lowest are looked at first."""


def _rank(column: str, seed: int) -> str:
    return f"md5_number(concat('{seed:d}', {column}))"


@dataclass(frozen=True)
class StoredDrift:
    """One look; `drifted` names what has, separated by commas, and `report` is the content as JSON."""

    drift_id: str
    release_id: str
    drifted: str
    report: str
    created_at: datetime


class DriftTable:
    """Drift of one application's documents and answers, and the sample of live ones for labelling."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, row: StoredDrift, flags: pa.Table) -> None:
        """Store a report with its flagged documents (`FLAGS_SCHEMA`), unless the newest one says the same."""

        def body(transaction: Transaction) -> None:
            stored = transaction.relation("drift_reports")
            newest = transaction.run(f"SELECT drift_id FROM {stored} ORDER BY {NEWEST_FIRST} LIMIT 1")
            if newest == [(row.drift_id,)]:
                return
            flagged = transaction.run(f"SELECT 1 FROM {stored} WHERE drift_id = ? LIMIT 1", [row.drift_id])
            values = [row.drift_id, row.release_id, row.drifted, row.report, row.created_at]
            sequence = transaction.next_sequence("drift_reports")
            transaction.run(
                f"INSERT INTO {transaction.target('drift_reports')} "
                '(drift_id, release_id, drifted, report, created_at, "sequence") VALUES (?, ?, ?, ?, ?, ?)',
                [*values, sequence],
            )
            if flagged:
                return
            target = transaction.target("drift_flags")
            transaction.run(
                f"INSERT INTO {target} SELECT ?, document_id, fingerprint, novelty FROM flags", [row.drift_id]
            )

        with self._session.cursor("write drift to") as cursor:
            cursor.register("flags", flags.select(FLAGS_SCHEMA.names).cast(FLAGS_SCHEMA))
            self._session.write(self._application, body, cursor=cursor)

    def latest(self) -> StoredDrift | None:
        """The newest report."""
        found = self._session.rows(
            f"SELECT drift_id, release_id, drifted, report, created_at FROM {self._relation('drift_reports')} "
            f"ORDER BY {NEWEST_FIRST}, drift_id LIMIT 1"
        )
        return StoredDrift(*found[0]) if found else None

    def flagged(self) -> pa.Table:
        """Documents most unlike the reference window, of all reports, as they are now: document_id, fingerprint,
        novelty in [0, 1] (the largest measured), most unlike first. A document whose text has changed since is gone.
        """
        documents = self._relation("documents")
        return self._session.table(
            f"SELECT f.document_id, f.fingerprint, max(f.novelty) AS novelty FROM {self._relation('drift_flags')} f "
            f"SEMI JOIN {documents} d ON d.document_id = f.document_id AND d.fingerprint = f.fingerprint "
            "GROUP BY ALL ORDER BY novelty DESC, f.document_id"
        )

    def unconsidered(self, release_id: str, *, since: datetime) -> pa.Table:
        """One row (fingerprint, document_id, confidence) per live text that a release answered and no draw has seen."""
        live = self._session.table(
            f"SELECT d.fingerprint, min(d.document_id) AS document_id FROM {self._relation('documents')} d "
            "WHERE d.status = 'sendable' AND d.updated_at > $since AND NOT EXISTS ("
            f"SELECT 1 FROM {self._relation('labelling')} l "
            "WHERE l.release_id = $release AND l.fingerprint = d.fingerprint) GROUP BY 1",
            {"release": release_id, "since": since},
        )
        # All of them may be new; which they are matters only where they are few.
        texts = live["fingerprint"].slice(0, MOST_TEXTS + 1).to_pylist()
        answers = self._answers_to(texts, release_id=release_id)
        with self._session.cursor() as cursor:
            cursor.register("live", live)
            return execute(
                cursor,
                f"SELECT d.fingerprint, d.document_id, c.confidence FROM live d JOIN ({answers}) c USING (fingerprint) "
                "ORDER BY d.document_id",
            ).to_arrow_table()

    def consider(self, rows: pa.Table) -> int:
        """Store draws (`LABELLING_SCHEMA`) of texts that no draw has seen; returns how many were stored."""
        columns = listed("labelling")

        def body(transaction: Transaction) -> int:
            absent = (
                f"FROM given g WHERE NOT EXISTS (SELECT 1 FROM {transaction.relation('labelling')} l "
                "WHERE l.release_id = g.release_id AND l.fingerprint = g.fingerprint)"
            )
            if not transaction.count(f"SELECT count(*) {absent}"):
                return 0
            target = transaction.target("labelling")
            return transaction.count(f"INSERT INTO {target} ({columns}) SELECT {columns} {absent}")

        with self._session.cursor("write labelling to") as cursor:
            cursor.register("given", rows.select(LABELLING_SCHEMA.names).cast(LABELLING_SCHEMA))
            return self._session.write(self._application, body, cursor=cursor)[0]

    def drawn(self, release_id: str) -> pa.Table:
        """Texts drawn for labelling: document_id, fingerprint, probability, reason, oldest first."""
        return self._session.table(
            f"SELECT document_id, fingerprint, probability, reason FROM {self._relation('labelling')} "
            "WHERE release_id = ? AND selected ORDER BY considered_at, document_id",
            [release_id],
        )

    def considered_count(self, release_id: str) -> int:
        """How many live texts have been through the draw."""
        sql = f"SELECT count(*) FROM {self._relation('labelling')} WHERE release_id = ?"
        return int(self._session.value(sql, [release_id]))

    def window(self, release_id: str, *, since: datetime, live: bool, limit: int, seed: int) -> pa.Table:
        """Texts of one window with a release's answers, one row a text, in the order of the keys.

        `live` takes the newest texts after `since`, else those up to it, drawn by hash. Texts are cut at
        `CHARACTERS`: enough for what is measured. Columns: document_id, fingerprint, text; status, answer, confidence
        and raw are null without an answer.
        """
        chosen = self._newest(since, limit=limit) if live else self._drawn_before(since, limit=limit, seed=seed)
        documents = self._relation("documents")

        def read(keys: Sequence[str]) -> pa.Table:
            named = set(keys)
            texts = [text for text, key in chosen if key in named]
            answers = self._answers_to(texts, release_id=release_id, since=since if live else None)
            return self._session.table(
                f"SELECT t.document_id, t.fingerprint, left(t.text, {CHARACTERS:d}) AS text, "
                "c.status, c.answer, c.confidence, c.raw "
                f"FROM (SELECT document_id, fingerprint, text FROM {documents} WHERE {one_of('document_id', keys)}) t "
                f"LEFT JOIN ({answers}) c ON c.fingerprint = t.fingerprint ORDER BY t.document_id"
            )

        keys = [key for _, key in chosen]
        if live:
            return read(keys)
        return KeptRows(self._session, self._application).rows(
            WINDOW, keys, read, of=[release_id, str(CHARACTERS)], with_answers=True
        )

    def _newest(self, since: datetime, *, limit: int) -> list[tuple[str, str]]:
        """(fingerprint, document_id) of the newest texts; files without a newer document are passed over."""
        return [
            (row[0], row[1])
            for row in self._session.rows(
                f"SELECT fingerprint, min(document_id), max(updated_at) AS newest FROM {self._relation('documents')} "
                "WHERE status = 'sendable' AND updated_at > $since GROUP BY fingerprint "
                "ORDER BY newest DESC, fingerprint LIMIT $limit",
                {"since": since, "limit": limit},
            )
        ]

    def _drawn_before(self, since: datetime, *, limit: int, seed: int) -> list[tuple[str, str]]:
        """The same of texts without a newer document, those whose hash is smallest.

        All texts are looked at once. Later only texts of documents that have changed can come into the draw or leave
        it: while their hashes are larger than those drawn, and none of them was, it is as it was.
        """
        tallies, rules = Tallies(self._session, self._application), [since.isoformat(), limit, seed]
        kept, snapshot = tallies.recall(DRAWN), self._session.snapshot()
        if kept is not None and kept["rules"] == rules and self._is_drawn_still(tallies, kept, snapshot, seed=seed):
            return [(row[0], row[1]) for row in kept["texts"]]
        documents = self._session.relation(self._application, "documents", at_snapshot=snapshot)
        # Documents of one text have one hash, so those with a large one are left out before texts are put together:
        # what is grouped is some times the draw, whatever the table.
        share = SPARE * limit / max(tallies.documents().sums.numbers["documents"], 1)
        rows = self._lowest(documents, since, limit=limit, seed=seed, share=share)
        if len(rows) < limit and share < 1.0:
            rows = self._lowest(documents, since, limit=limit, seed=seed, share=1.0)
        last = rows[-1][2] if len(rows) == limit else None
        tallies.remember(
            DRAWN, {"rules": rules, "at": snapshot, "last": last, "texts": [[row[0], row[1]] for row in rows]}
        )
        return [(row[0], row[1]) for row in rows]

    def _lowest(self, documents: str, since: datetime, *, limit: int, seed: int, share: float) -> list[tuple[Any, ...]]:
        """(fingerprint, document_id, rank) of texts without a newer document, among the lowest share of all ranks."""
        rank = _rank("fingerprint", seed)
        below = f"AND {rank} <= '{int(RANKS * share)}'::UHUGEINT" if share < 1.0 else ""
        return self._session.rows(
            f"SELECT fingerprint, min(document_id), {rank}::VARCHAR FROM {documents} WHERE status = 'sendable' {below} "
            f"GROUP BY fingerprint HAVING max(updated_at) <= $since ORDER BY {rank} LIMIT $limit",
            {"since": since, "limit": limit},
        )

    def _is_drawn_still(self, tallies: Tallies, kept: dict[str, Any], snapshot: int, *, seed: int) -> bool:
        standing = tallies.standing(DRAWN)
        since = standing["at"] if standing is not None and standing["drawn_at"] == kept["at"] else kept["at"]
        if not self._session.is_written_since(since, self._application, "documents"):
            return True
        with self._session.cursor() as cursor:
            if not tallies.stage_changed(cursor, since, snapshot, most=0):
                return False
            then, now = (
                self._session.relation(self._application, "documents", at_snapshot=at) for at in (since, snapshot)
            )
            moved = " UNION ALL ".join(
                f"SELECT fingerprint FROM (SELECT * FROM {documents}) JOIN changed USING (document_id)"
                for documents in (then, now)
            )
            near = "true" if kept["last"] is None else f"{_rank('fingerprint', seed)} <= '{kept['last']}'::UHUGEINT"
            if cursor.execute(f"SELECT count(*) FROM ({moved}) WHERE {near}").fetchall()[0][0]:
                return False
        tallies.stand(DRAWN, {"drawn_at": kept["at"], "at": snapshot})
        return True

    def _answers_to(self, texts: Sequence[str], *, release_id: str, since: datetime | None = None) -> str:
        """SQL of one answer of a release for each of these texts: ours, else the upstream's.

        Args:
            texts: Fingerprints; of very many, answers to others are given, too.
            release_id: Has answered.
            since: Most were answered after this moment, so that is where they are looked for first.
        """
        columns, release = "release_id, fingerprint, status, answer, confidence, raw", literal(release_id)
        among = one_of("fingerprint", texts) if len(texts) <= MOST_TEXTS else "true"
        ledger = f"SELECT {columns} FROM {self._relation('completions')} WHERE release_id = {release} AND {among}"
        if self._session.has_upstream:
            theirs = self._session.relation(self._application, "completions", catalog=UPSTREAM)
            return (
                f"SELECT * EXCLUDE (place) FROM (SELECT 0 AS place, * FROM ({ledger}) UNION ALL "
                f"SELECT 1, {columns} FROM {theirs} WHERE release_id = {release} AND {among}) "
                "QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY place) = 1"
            )
        if len(texts) > MOST_TEXTS:
            return ledger
        new, others = "", texts
        if since is not None:
            # Files of answers are passed over by the times of their rows, and not by the hashes of texts.
            recent = f"{ledger} AND created_at > TIMESTAMPTZ '{since.isoformat()}'"
            found = {row[0] for row in self._session.rows(f"SELECT fingerprint FROM ({recent})")}
            new, others = f"{recent} UNION ALL ", [text for text in texts if text not in found]
        stored = self._session.looked_up(self._application).answers(others)
        return f"{new}SELECT {columns} FROM {stored} WHERE release_id = {release}"

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)
