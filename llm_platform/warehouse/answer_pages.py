"""Documents with the answers of several releases, a page at a time, in the order of their keys.

A page is found by the key of the last row of the one before it, and never by counting rows: the thousandth page of a
table of millions takes as long as the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from llm_platform.records import AnswersFilter
from llm_platform.warehouse.annotations import live_sql
from llm_platform.warehouse.engine import execute, json_pointer
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session
from llm_platform.warehouse.stored_reasons import in_own_words

LOOKS = (20_000, 200_000)
"""Documents that are compared for a page: at first so many that a few in a thousand fill it, then as many as a person
waits for; the page says how far it has looked, and goes on from there."""
SAMPLED = 20_000
"""Documents whose attributes are offered as filters."""
MOST_VALUES = 12


class AnswerPages:
    """Answers of one application; reads the upstream's, too, ours first."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application

    def page(
        self,
        wanted: AnswersFilter,
        releases: Sequence[str],
        *,
        scorer: str,
        references_version: str,
        limit: int,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Documents that fit: document_id, fingerprint, status, reason, text, attributes (JSON), known answer.

        Also the key up to which was looked, where fewer than `limit` were found so far and more may follow.

        Args:
            wanted: Which.
            releases: Whose answers count for `wrong`, `differing` and `invalid`.
            scorer: By whose grades an answer is wrong: by any that is less than full.
            references_version: Known answers that the grades rest on.
            limit: At most so many.
        """
        given = {"releases": list(releases), "after": wanted.after, "limit": limit}
        where = ["d.document_id > $after"]
        if wanted.document_id:
            # A key may begin with a blank, which a link has, and what somebody has typed or pasted may, too.
            where.append("(starts_with(d.document_id, $document) OR starts_with(d.document_id, $stripped))")
            given |= {"document": wanted.document_id, "stripped": wanted.document_id.strip()}
        if wanted.attribute is not None:
            where.append("json_extract_string(d.attributes, $path) IS NOT DISTINCT FROM $value")
            given |= {"path": json_pointer(wanted.attribute), "value": wanted.value}
        if wanted.tag:
            where.append(f"d.document_id IN ({self._tagged()})")
            given["tag"] = wanted.tag
        if wanted.only == "wrong":
            where.append(f"d.fingerprint IN ({self._wrong()})")
            given |= {"scorer": scorer, "references": references_version}
        if wanted.only == "invalid":
            invalid = f"SELECT fingerprint FROM {self._answers('status')} WHERE status <> 'valid'"
            where.append(f"d.fingerprint IN ({invalid})")
        if wanted.only == "differing":
            keys, until = self._differing(where, given, limit)
            return self._rows(keys), until
        return self._rows(self._keys(where, given)), None

    def answers(
        self, documents: Sequence[Mapping[str, Any]], releases: Sequence[str]
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """(fingerprint, release) → status, answer, confidence and reason, in words that repeat no document.

        Args:
            documents: Rows of `page`.
            releases: Whose answers.
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        texts = {row["fingerprint"] for row in documents}
        keys = [row["document_id"] for row in documents]
        # An answer stands under the first document of its text, as a rule this one: files that hold none of these keys
        # are passed over, and all are read only for what was not found there.
        for near in (True, False):
            wanted = sorted({text for text in texts for release in releases if (text, release) not in found})
            for catalog in (LAKE, UPSTREAM) if self._session.has_upstream else (LAKE,):
                if not wanted:
                    continue
                relation = self._session.relation(self._application, "completions", catalog=catalog)
                rows = self._session.table(
                    f"SELECT fingerprint, release_id, status, answer, confidence, {in_own_words()} AS reason "
                    f"FROM {relation} WHERE fingerprint IN (SELECT unnest($fingerprints::VARCHAR[])) "
                    "AND release_id IN (SELECT unnest($releases::VARCHAR[]))"
                    + (" AND document_id BETWEEN $first AND $last" if near else ""),
                    {
                        "fingerprints": wanted,
                        "releases": list(releases),
                        **({"first": keys[0], "last": keys[-1]} if near else {}),
                    },
                ).to_pylist()
                for row in rows:
                    found.setdefault((row.pop("fingerprint"), row.pop("release_id")), row)
        return found

    def grades(
        self, fingerprints: Sequence[str], releases: Sequence[str], *, scorer: str, references_version: str
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """(fingerprint, release) → score and reason by one scorer."""
        relation = self._session.relation(self._application, "scores")
        rows = self._session.rows(
            f"SELECT fingerprint, release_id, score, reason FROM {relation} WHERE scorer = $scorer "
            "AND references_version = $references AND release_id IN (SELECT unnest($releases::VARCHAR[])) "
            "AND fingerprint IN (SELECT unnest($fingerprints::VARCHAR[]))",
            {
                "scorer": scorer,
                "references": references_version,
                "releases": list(releases),
                "fingerprints": list(fingerprints),
            },
        )
        return {(row[0], row[1]): {"score": row[2], "reason": row[3]} for row in rows}

    def tags(self) -> list[str]:
        """Tags that documents carry."""
        return [row[0] for row in self._session.rows(f"SELECT DISTINCT body FROM ({self._labels()}) ORDER BY body")]

    def values(self, attributes: Sequence[str]) -> dict[str, list[str]]:
        """Attribute → its commonest values among some thousand documents."""
        documents = self._session.relation(self._application, "documents")
        found = {}
        for attribute in attributes:
            rows = self._session.rows(
                "SELECT value FROM (SELECT json_extract_string(attributes, $path) AS value FROM "
                f"(SELECT attributes FROM {documents} LIMIT {SAMPLED:d})) WHERE value IS NOT NULL "
                f"GROUP BY value ORDER BY count(*) DESC, value LIMIT {MOST_VALUES:d}",
                {"path": json_pointer(attribute)},
            )
            found[attribute] = [row[0] for row in rows]
        return found

    def _keys(self, where: Sequence[str], given: dict[str, Any]) -> pa.Table:
        documents = self._session.relation(self._application, "documents")
        sql = f"SELECT d.document_id FROM {documents} d WHERE {' AND '.join(where)} ORDER BY d.document_id LIMIT $limit"
        return self._session.table(sql, {name: value for name, value in given.items() if f"${name}" in sql})

    def _differing(self, where: Sequence[str], given: dict[str, Any], limit: int) -> tuple[pa.Table, str | None]:
        """Keys of documents with different answers among the next thousands, and the last key that was looked at where
        documents follow it and the page is not full."""
        documents = self._session.relation(self._application, "documents")
        found, until = pa.table({"document_id": pa.array([], pa.string())}), None
        with self._session.cursor() as cursor:
            for looks in LOOKS:
                first = f"SELECT d.document_id, d.fingerprint FROM {documents} d WHERE {' AND '.join(where)} "
                sql = f"CREATE OR REPLACE TEMP TABLE looked AS {first} ORDER BY d.document_id LIMIT {looks:d}"
                execute(cursor, sql, {name: value for name, value in given.items() if f"${name}" in sql})
                size, until = cursor.execute("SELECT count(*), max(document_id) FROM looked").fetchall()[0]
                sql = (
                    "SELECT document_id FROM looked WHERE fingerprint IN ("
                    f"SELECT fingerprint FROM {self._answers('hash(answer) AS said')} WHERE fingerprint IN "
                    "(SELECT fingerprint FROM looked) GROUP BY fingerprint HAVING min(said) <> max(said)) "
                    f"ORDER BY document_id LIMIT {limit:d}"
                )
                found = execute(cursor, sql, {"releases": given["releases"]}).to_arrow_table()
                if found.num_rows == limit or size < looks:
                    return found, None
        return found, until

    def _rows(self, keys: pa.Table) -> list[dict[str, Any]]:
        listed = keys["document_id"].to_pylist()
        if not listed:
            return []
        documents, references = (
            self._session.relation(self._application, name) for name in ("documents", "references")
        )
        rows: list[dict[str, Any]] = self._session.table(
            # The range lets the engine pass over files that hold none of them.
            "SELECT d.document_id, d.fingerprint, d.status, d.reason, d.text, d.attributes, r.answer AS known "
            f"FROM (SELECT * FROM {documents} WHERE document_id BETWEEN $first AND $last "
            "AND document_id IN (SELECT unnest($listed::VARCHAR[]))) d "
            f"LEFT JOIN {references} r ON r.document_id = d.document_id ORDER BY d.document_id",
            {"first": listed[0], "last": listed[-1], "listed": listed},
        ).to_pylist()
        return rows

    def _answers(self, column: str) -> str:
        """Answers of the releases, as (fingerprint, column)."""
        shown = "release_id IN (SELECT unnest($releases::VARCHAR[]))"
        ours = self._session.relation(self._application, "completions")
        own = f"SELECT fingerprint, release_id, {column} FROM {ours} WHERE {shown}"
        if not self._session.has_upstream:
            return f"({own})"
        theirs = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        return (
            f"({own} UNION ALL SELECT fingerprint, release_id, {column} FROM {theirs} t WHERE {shown} AND NOT EXISTS ("
            f"SELECT 1 FROM {ours} o WHERE o.release_id = t.release_id AND o.fingerprint = t.fingerprint))"
        )

    def _wrong(self) -> str:
        scores = self._session.relation(self._application, "scores")
        return (
            f"SELECT fingerprint FROM {scores} WHERE scorer = $scorer AND references_version = $references "
            "AND score < 1 AND release_id IN (SELECT unnest($releases::VARCHAR[]))"
        )

    def _labels(self) -> str:
        relation = self._session.relation(self._application, "annotations")
        return f"SELECT document_id, body FROM ({live_sql(relation)}) WHERE kind = 'tag' AND document_id IS NOT NULL"

    def _tagged(self) -> str:
        return f"SELECT document_id FROM ({self._labels()}) WHERE body = $tag"
