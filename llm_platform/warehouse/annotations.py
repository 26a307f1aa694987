"""`annotations`: what people said about answers, documents, prompts, runs and releases. Rows are only ever appended.

A verdict is one row per answer that was shown; the rows of one decision share a `group_id`, and taking it back is a row
of kind `undo` that names the group, or one row of it. Reading methods see the upstream's rows too, and leave out what
was taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from llm_platform.errors import ContractBroken
from llm_platform.records import IMPORTED, Annotation
from llm_platform.records.tables import arrow_schema
from llm_platform.tables.forms import stored
from llm_platform.warehouse.bars import leave_out_forgotten
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

LISTED = listed("annotations")
ADJUDICATION = "adjudication"
"""The queue in which an adjudicator decides; a verdict given there is final."""
_ON_THE_PAGE = "queue IS DISTINCT FROM 'import'"
"""Rows that say when they were written; those of a file say what the file says."""
AUDIT = "audit"
"""The queue that takes documents in a seeded random order, from the start and without gaps."""
AGREED_SHARE = 0.02
"""Of the texts to which the answers agree, how many are asked for beside those to which they differ."""


WRITTEN = ("answer", "judged", "body", "by")
"""Columns that hold what somebody wrote."""


def annotations_table(rows: Sequence[Annotation]) -> pa.Table:
    """Annotations in the form that `append` stores."""
    dumped = [row.model_dump(mode="python") for row in rows]
    for row in dumped:
        # What people type, or a file says, may hold what a column of texts cannot.
        row |= {name: stored(row[name]) for name in WRITTEN if row[name] is not None}
    return pa.Table.from_pylist(dumped, schema=arrow_schema("annotations"))


def live_sql(relation: str) -> str:
    """Rows of a relation of annotations that nobody has taken back, undo rows left out.

    What was decided on the page is taken back on the page: an imported undo holds for imported rows.
    """
    may = f"(coalesce(u.queue, '') <> '{IMPORTED}' OR a.queue = '{IMPORTED}')"
    return (
        # Two anti-joins: with one of both keys, the engine compares every pair of rows.
        f"SELECT * FROM {relation} a WHERE a.kind <> 'undo' "
        f"AND NOT EXISTS (SELECT 1 FROM {relation} u WHERE u.kind = 'undo' AND u.undoes = a.group_id AND {may}) "
        f"AND NOT EXISTS (SELECT 1 FROM {relation} u WHERE u.kind = 'undo' AND u.undoes = a.annotation_id AND {may})"
    )


def opinions_sql(relation: str) -> str:
    """One row per (document, text, person): the answer the person holds right, and those the person holds wrong.

    The newest decision of a person counts. Both may be empty: then the person could not tell. Imported verdicts count
    where nobody has judged the text on the page: a file may say that anybody said anything at any time.
    """
    return (
        'SELECT document_id, fingerprint, "by", max(answer) AS answer, '
        "coalesce(list(DISTINCT judged) FILTER (verdict IN ('wrong', 'corrected') AND judged IS NOT NULL), []) "
        f'AS rejected, bool_or(queue = \'{ADJUDICATION}\') AS adjudicated, max("at") AS "at" FROM ('
        f"SELECT * FROM (SELECT * FROM ({live_sql(relation)}) WHERE kind = 'verdict' QUALIFY dense_rank() OVER "
        f"(PARTITION BY document_id, fingerprint ORDER BY coalesce(queue, '') = '{IMPORTED}') = 1) "
        "QUALIFY dense_rank() OVER "
        '(PARTITION BY document_id, fingerprint, "by" ORDER BY "at" DESC, group_id DESC) = 1) GROUP BY ALL'
    )


def decisions_sql(relation: str) -> str:
    """One row per (document, text) with a verdict: the answer that holds, and on what basis.

    `adjudicated`: the newest answer of an adjudicator. `unopposed`: everybody who gave an answer gave this one, and
    nobody called it wrong; people who could not tell do not count. `opposed`: neither, so there is no answer.
    """
    return f"""
        WITH opinions AS ({opinions_sql(relation)}),
        together AS (
            SELECT document_id, fingerprint, count(*) AS reviewers, max("at") AS "at",
                arg_max(answer, "at") FILTER (adjudicated AND answer IS NOT NULL) AS final,
                list(DISTINCT answer) FILTER (answer IS NOT NULL) AS answers,
                coalesce(flatten(list(rejected)), []) AS rejected
            FROM opinions GROUP BY ALL
        )
        SELECT document_id, fingerprint, reviewers, "at",
            CASE WHEN final IS NOT NULL THEN final
                WHEN len(answers) = 1 AND NOT list_contains(rejected, answers[1]) THEN answers[1] END AS answer,
            CASE WHEN final IS NOT NULL THEN 'adjudicated'
                WHEN len(answers) = 1 AND NOT list_contains(rejected, answers[1]) THEN 'unopposed'
                WHEN len(answers) >= 1 THEN 'opposed' ELSE 'no answer' END AS basis
        FROM together
    """


def audit_rank_sql(fingerprint: str) -> str:
    """Place of a text in the random order of the audit queue: the same for ever, and unrelated to what it says."""
    return f"md5_number('audit:' || {fingerprint})"


def checked_sql(fingerprint: str) -> str:
    """Whether a text is asked for although all answers to it agree: a known share, the same texts for ever."""
    return f"(md5_number('agreed:' || {fingerprint}) % 10000 < {round(AGREED_SHARE * 10_000)})"


FORM = r"regexp_replace(nfc_normalize(d.document_id), '^(-?[0-9]+)\.0$', '\1')"
"""The form that a key has now which an older version may have stored otherwise."""


class Annotations:
    """Verdicts, tags and notes of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, rows: Sequence[Annotation]) -> int:
        """Store the rows whose id is missing, in one transaction; returns how many.

        Time does not go back: where its own clock is behind, a row is given the time after the newest one. The newest
        verdict counts, and a host whose clock was ahead would have the last word for as long. What a file says keeps
        its time.

        Raises:
            ContractBroken: an id occurs twice in the rows.
        """
        repeated = len(rows) - len({row.annotation_id for row in rows})
        if repeated:
            raise ContractBroken(f"{repeated} of {len(rows)} annotations repeat an id. Give each row an id of its own.")

        def body(transaction: Transaction) -> int:
            stored = transaction.relation("annotations")
            new = f"FROM given g WHERE NOT EXISTS (SELECT 1 FROM {stored} s WHERE s.annotation_id = g.annotation_id)"
            if not transaction.count(f"SELECT count(*) {new}"):
                return 0
            times = (f'SELECT "at", queue FROM {one}' for one in (stored, transaction.upstream("annotations")))
            known = " UNION ALL ".join(times)
            newest = f'(SELECT max("at") FROM ({known}) WHERE {_ON_THE_PAGE})'
            after = f'CASE WHEN {_ON_THE_PAGE} THEN greatest("at", {newest} + INTERVAL 1 MICROSECOND) ELSE "at" END'
            chosen = ", ".join(f'{after} AS "at"' if name == '"at"' else name for name in LISTED.split(", "))
            target = transaction.target("annotations")
            return transaction.count(f"INSERT INTO {target} ({LISTED}) SELECT {chosen} {new}")

        with self._session.cursor("write annotations to") as cursor:
            cursor.register("written", annotations_table(rows))
            cursor.execute("CREATE TEMP TABLE given AS SELECT * FROM written")
            leave_out_forgotten(self._session, self._application, cursor, ("given",))
            return self._session.write(self._application, body, cursor=cursor)[0]

    def table(self) -> pa.Table:
        """Every row as it was appended, undo rows too, oldest first."""
        return self._session.table(f'SELECT {LISTED} FROM {self._relation()} ORDER BY "at", annotation_id')

    def group(self, group_id: str) -> pa.Table:
        """The rows of one decision, undo rows of it too."""
        return self._session.table(
            f'SELECT {LISTED} FROM {self._relation()} WHERE group_id = ? OR undoes = ? ORDER BY "at", annotation_id',
            [group_id, group_id],
        )

    def verdicts(self, *, release_id: str | None = None) -> pa.Table:
        """Verdicts that stand, one row per answer judged, oldest first; of one release if given."""
        where = "kind = 'verdict'" + (f" AND release_id = {literal(release_id)}" if release_id is not None else "")
        return self._session.table(
            f'SELECT {LISTED} FROM ({live_sql(self._relation())}) WHERE {where} ORDER BY "at", annotation_id'
        )

    def decisions(self) -> pa.Table:
        """One row per judged (document_id, fingerprint): answer, basis, reviewers, at. See `decisions_sql`."""
        return self._session.table(f"{decisions_sql(self._relation())} ORDER BY document_id, fingerprint")

    def basis_counts(self) -> dict[str, int]:
        """Basis of decisions on documents as they are now → how many."""
        documents = self._session.relation(self._application, "documents")
        return dict(
            self._session.rows(
                f"SELECT d.basis, count(*) FROM ({decisions_sql(self._relation())}) d "
                f"SEMI JOIN {documents} c ON c.fingerprint = d.fingerprint GROUP BY 1 ORDER BY 1"
            )
        )

    def approved(self) -> pa.Table:
        """Answers that hold for the documents as they are now, by key.

        Columns: document_id, fingerprint, answer, basis (`adjudicated` or `unopposed`), reviewers, at, and `sampled`:
        whether the document lies in the audited part of the random order, so that it was not chosen for its answers.
        A verdict on a text that has since changed is left out.
        """
        relation = self._relation()
        documents = self._session.relation(self._application, "documents")
        frontier = (
            f"SELECT max({audit_rank_sql('fingerprint')}) FROM ({live_sql(relation)}) "
            f"WHERE kind = 'verdict' AND queue = '{AUDIT}'"
        )
        return self._session.table(
            f'SELECT c.document_id, d.fingerprint, d.answer, d.basis, d.reviewers, d."at", '
            f"coalesce({audit_rank_sql('d.fingerprint')} <= ({frontier}), false) AS sampled "
            f"FROM ({decisions_sql(relation)}) d "
            f"JOIN {documents} c ON c.fingerprint = d.fingerprint AND c.document_id IN (d.document_id, {FORM}) "
            "WHERE d.answer IS NOT NULL "
            # A key that was judged under an older form, and under its present one.
            "QUALIFY row_number() OVER (PARTITION BY c.document_id ORDER BY c.document_id = d.document_id DESC) = 1 "
            "ORDER BY c.document_id"
        )

    def texts_in_order(self) -> pa.Table:
        """Different texts that can be answered, in the random order in which labels are asked for.

        Columns: fingerprint, document_id (the first that has the text), text, attributes, and `checked`: whether its
        label is asked for where answers agree.
        """
        documents = self._session.relation(self._application, "documents")
        return self._session.table(
            f"SELECT fingerprint, min(document_id) AS document_id, arg_min(text, document_id) AS text, "
            f"arg_min(attributes, document_id) AS attributes, {checked_sql('fingerprint')} AS checked "
            f"FROM {documents} WHERE status = 'sendable' GROUP BY fingerprint "
            f"ORDER BY {audit_rank_sql('fingerprint')}, fingerprint"
        )

    def tags(self, subject_kind: str | None = None, subject_id: str | None = None) -> pa.Table:
        """Tags and notes that stand, oldest first; of one kind of subject, or of one subject."""
        return self._labelled("kind IN ('tag', 'note')", subject_kind=subject_kind, subject_id=subject_id)

    def tagged(self, tag: str) -> pa.Table:
        """What carries a tag: subject_kind, subject_id, and document_id, fingerprint, release_id where it has them."""
        return self._labelled(f"kind = 'tag' AND body = {literal(tag)}")

    def search(self, words: str) -> pa.Table:
        """Tags and notes that contain `words`, in any case."""
        return self._labelled(f"kind IN ('tag', 'note') AND contains(lower(body), {literal(words.lower())})")

    def newest_at(self) -> datetime | None:
        """When somebody last said something; None where nobody has."""
        found: datetime | None = self._session.value(f'SELECT max("at") FROM {self._relation()}')
        return found

    def data_version(self) -> str:
        """Hash of all rows; appending changes it, and nothing else does."""
        return version_of(self._session.rows(version_select(("annotation_id",), self._relation()))[0])

    def _labelled(self, where: str, *, subject_kind: str | None = None, subject_id: str | None = None) -> pa.Table:
        for name, value in (("subject_kind", subject_kind), ("subject_id", subject_id)):
            where += f" AND {name} = {literal(value)}" if value is not None else ""
        return self._session.table(
            f'SELECT {LISTED} FROM ({live_sql(self._relation())}) WHERE {where} ORDER BY "at", annotation_id'
        )

    def _relation(self) -> str:
        ours = self._session.relation(self._application, "annotations", catalog=LAKE)
        if not self._session.has_upstream:
            return f"(SELECT {LISTED} FROM {ours})"
        theirs = self._session.relation(self._application, "annotations", catalog=UPSTREAM)
        return f"(SELECT {LISTED} FROM {ours} UNION ALL SELECT {LISTED} FROM {theirs})"
