"""Stored failures of one application: documents whose answer is not valid, and those that are to be asked again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from llm_platform.records import CompletionStatus
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.ledger import LISTED
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction
from llm_platform.warehouse.stored_reasons import in_own_words
from llm_platform.warehouse.tallies import Tallies

_MEASURED = re.compile(r"(?<!HTTP )\b\d+")
"""Numbers of a reason that are of one document: seconds, requests, characters. A status of HTTP is a reason itself."""


@dataclass(frozen=True)
class Failure:
    """One document without a valid answer.

    Attributes:
        document_id: Of a judge's verdict, what the judge was asked about.
        is_ours: Whether the row is of this namespace; those of the upstream cannot be asked again from here.
    """

    document_id: str
    fingerprint: str
    status: str
    reason: str
    attempts: int
    run_id: str
    created_at: datetime
    is_ours: bool


def by_kind(found: Iterable[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """(status, reason, count), the most frequent first; those that differ in what was measured are one."""
    shown: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for status, reason, count in sorted(found):
        kind = (status, _MEASURED.sub("0", reason))
        shown.setdefault(kind, reason)
        counts[kind] += count
    causes = ((kind[0], shown[kind], count) for kind, count in counts.items())
    return sorted(causes, key=lambda cause: (-cause[2], cause[:2]))


class Failures:
    """Failures among the completions of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application

    def of_release(self, release_id: str) -> list[Failure]:
        """Documents as they are now whose stored answer is not valid, by their keys."""
        documents = self._session.relation(self._application, "documents")
        current = (
            f"JOIN (SELECT document_id, fingerprint FROM {documents} WHERE status = 'sendable') d USING (fingerprint)"
        )
        return self._found(release_id, "d.document_id", current)

    def causes(self, release_id: str) -> list[tuple[str, str, int]]:
        """(status, reason, documents) of answers that are not valid, the most frequent first."""
        counted = Tallies(self._session, self._application).answers(release_id).texts.numbers
        if counted["answered"] == counted["valid"]:
            return []
        found: list[tuple[str, str, int]] = []
        documents = self._session.relation(self._application, "documents")
        ours = self._session.relation(self._application, "completions")
        for catalog in (LAKE, UPSTREAM) if self._session.has_upstream else (LAKE,):
            relation = self._session.relation(self._application, "completions", catalog=catalog)
            known = f"SELECT 1 FROM {ours} o WHERE o.release_id = $key AND o.fingerprint = c.fingerprint"
            lacking = "" if catalog == LAKE else f" AND NOT EXISTS ({known})"
            found += self._session.rows(
                f"SELECT c.status, coalesce({in_own_words()}, ''), count(*) FROM "
                f"(SELECT c.* FROM {relation} c JOIN {documents} d ON d.fingerprint = c.fingerprint "
                f"WHERE d.status = 'sendable' AND c.release_id = $key AND c.status <> 'valid'{lacking}) c GROUP BY ALL",
                {"key": release_id},
            )
        return by_kind(found)

    def of_judge(self, release_id: str) -> list[Failure]:
        """Verdicts of a judge that are not valid; they are about answers, not about documents."""
        return self._found(release_id, "c.document_id", "")

    def of_text(self, fingerprint: str) -> dict[str, Failure]:
        """Release → why it has no valid answer to this text."""
        ours = self._session.relation(self._application, "completions")
        rows = self._session.rows(
            f"SELECT release_id, {_COLUMNS}, true FROM (SELECT *, document_id AS document FROM {ours}) c "
            f"WHERE fingerprint = $key AND status <> '{CompletionStatus.VALID}' ORDER BY created_at",
            {"key": fingerprint},
        )
        return {row[0]: _failure(row[1:]) for row in rows}

    def set_aside(
        self, lease: Lease, request_id: str, fingerprints: Collection[str], *, judged_by: str | None = None
    ) -> int:
        """Take failures out of the ledger, so that they are missing and asked again; returns how many documents.

        Those of every release that was derived of the same requests, those of the parts that they rest on, and the
        grades of all of these. Nothing is lost: each row is kept in `retried_completions`.

        Args:
            lease: Of the release that sends the requests.
            request_id: Of the same.
            fingerprints: Of the documents, or of what a judge was asked.
            judged_by: Beginning of the scorer's name whose verdicts they are: answers that it has not graded are graded
                anew then. Grades that come from other reasons come out the same.

        Raises:
            LeaseHeld: the lease was taken over; nothing was changed.
        """
        wanted = {"request": request_id, "fingerprints": sorted(set(fingerprints))}

        def body(transaction: Transaction) -> int:
            completions = transaction.relation("completions")
            transaction.run(
                f"CREATE OR REPLACE TEMP TABLE failed AS SELECT {LISTED} FROM {completions} "
                "WHERE status <> 'valid' AND request_id = $request "
                "AND fingerprint IN (SELECT unnest($fingerprints::VARCHAR[]))",
                wanted,
            )
            count = transaction.count("SELECT count(DISTINCT fingerprint) FROM failed")
            if not count:
                return 0
            made_of = transaction.relation("made_of")
            transaction.run(
                f"INSERT INTO failed SELECT {LISTED} FROM {completions} c WHERE status <> 'valid' AND EXISTS "
                f"(SELECT 1 FROM {made_of} m JOIN failed f USING (release_id, fingerprint) "
                "WHERE m.of_release_id = c.release_id AND m.of_fingerprint = c.fingerprint)"
            )
            kept = transaction.target("retried_completions")
            transaction.run(f"INSERT INTO {kept} ({LISTED}, retried_at) SELECT {LISTED}, now() FROM failed")
            for table in ("completions", "made_of", "scores"):
                if self._session.exists(self._application, table):
                    transaction.run(
                        f"DELETE FROM {transaction.target(table)} WHERE (release_id, fingerprint) IN "
                        "(SELECT (release_id, fingerprint) FROM failed)"
                    )
            if judged_by is not None and self._session.exists(self._application, "scores"):
                transaction.run(
                    f"DELETE FROM {transaction.target('scores')} WHERE score IS NULL AND starts_with(scorer, $scorer)",
                    {"scorer": judged_by},
                )
            return count

        with self._session.cursor("ask failures again in") as cursor:
            return self._session.write(self._application, body, cursor=cursor, guard=lease.guard)[0]

    def _found(self, release_id: str, document: str, join: str) -> list[Failure]:
        catalogs = {True: LAKE, **({False: UPSTREAM} if self._session.has_upstream else {})}
        ours = self._session.relation(self._application, "completions")
        found: list[Failure] = []
        for is_ours, catalog in catalogs.items():
            relation = self._session.relation(self._application, "completions", catalog=catalog)
            stored_here = f"SELECT 1 FROM {ours} o WHERE o.release_id = $key AND o.fingerprint = c.fingerprint"
            lacking = "" if is_ours else f" AND NOT EXISTS ({stored_here})"
            rows = self._session.rows(
                f"SELECT {_COLUMNS}, {str(is_ours).lower()} FROM (SELECT {document} AS document, c.* FROM {relation} c "
                f"{join} WHERE c.release_id = $key AND c.status <> '{CompletionStatus.VALID}'{lacking}) c "
                "ORDER BY document",
                {"key": release_id},
            )
            found += map(_failure, rows)
        return found


_COLUMNS = f"document, fingerprint, status, coalesce({in_own_words()}, ''), attempts, run_id, created_at"


def _failure(row: tuple[object, ...]) -> Failure:
    return Failure(*row)  # type: ignore[arg-type]
