"""Shares of documents: which are in one, and what a release has made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_platform.records import CompletionStatus
from llm_platform.records.rollout import AskedDocuments, Route
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.schema import published_table
from llm_platform.warehouse.session import UPSTREAM, Session

FAILED = (CompletionStatus.FAILED, CompletionStatus.REJECTED)


@dataclass(frozen=True)
class ShareMeasured:
    """What a release has made of the documents of its share.

    Attributes:
        documents: Sendable ones in the share.
        answered: Those with a stored answer of whatever kind.
        valid, failed: Of these.
        timed, slower: Answers that were really sent, and those of them that took longer than a limit.
        p95_seconds: None where nothing was timed.
    """

    documents: int
    answered: int
    valid: int
    failed: int
    timed: int
    slower: int
    p95_seconds: float | None


class Shares:
    """Shares of one application's documents."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def measured(
        self, release_id: str, *, rollout_id: str | None, share: float, slower_than: float | None = None
    ) -> ShareMeasured:
        """What a release has made of a rollout's share; of all documents where `rollout_id` is None."""
        inside = "true" if rollout_id is None else in_share("document_id", rollout_id, share)
        documents = self._session.relation(self._application, "documents")
        limit = "NULL" if slower_than is None else f"{literal(repr(float(slower_than)))}::DOUBLE"
        sent = "c.latency_seconds IS NOT NULL AND NOT coalesce(c.reused, false)"
        failed = ", ".join(literal(str(status)) for status in FAILED)
        found = self._session.rows(
            f"SELECT count(*), count(c.status), count(*) FILTER (c.status = 'valid'), "
            f"count(*) FILTER (c.status IN ({failed})), count(*) FILTER ({sent}), "
            f"count(*) FILTER ({sent} AND c.latency_seconds > {limit}), "
            f"quantile_cont(c.latency_seconds, 0.95) FILTER ({sent}) "
            f"FROM (SELECT * FROM {documents} WHERE status = 'sendable' AND {inside}) d "
            f"LEFT JOIN ({self._answers(release_id)}) c USING (fingerprint)"
        )[0]
        documents_count, answered, valid, failed_count, timed, slower = map(int, found[:6])
        return ShareMeasured(documents_count, answered, valid, failed_count, timed, slower, found[6])

    def routed(self, routes: Sequence[Route]) -> dict[str | None, int]:
        """Rollout → documents whose reader gets its challenger's answer; None is the champion."""
        documents = self._session.relation(self._application, "documents")
        answered = " ".join(
            f"LEFT JOIN ({self._answers(one.release_id)}) c{at} "
            f"ON c{at}.fingerprint = CASE WHEN d.route = {at} THEN d.fingerprint END"
            for at, one in enumerate(routes)
        )
        kept = " ".join(f"WHEN c{at}.status IS NOT NULL THEN {at}" for at in range(len(routes)))
        whose = f"CASE {kept} END" if kept else "NULL"
        rows = self._session.rows(
            f"SELECT {whose} AS whose, count(*) FROM (SELECT *, {route_of(routes)} AS route FROM {documents} "
            f"WHERE status = 'sendable') d {answered} GROUP BY 1"
        )
        counts: dict[str | None, int] = {None: 0, **{one.rollout_id: 0 for one in routes}}
        for at, count in rows:
            counts[None if at is None else routes[at].rollout_id] = int(count)
        return counts

    def published(self, routes: Sequence[Route], rollout_id: str, contract: int) -> tuple[int, int]:
        """Documents whose reader gets a challenger's answer, and those that would with the next publication."""
        (at,) = (at for at, one in enumerate(routes) if one.rollout_id == rollout_id)
        release_id = routes[at].release_id
        documents = self._session.relation(self._application, "documents")
        rows = self._session.relation(self._application, published_table(contract))
        found = self._session.rows(
            f"SELECT count(*) FILTER (p.release_id = {literal(release_id)}), "
            f"count(*) FILTER (p.release_id IS DISTINCT FROM {literal(release_id)}) FROM "
            f"(SELECT *, {route_of(routes)} AS route FROM {documents} WHERE status = 'sendable' AND origin IS NULL) d "
            f"JOIN ({self._answers(release_id)}) c USING (fingerprint) LEFT JOIN {rows} p USING (document_id) "
            f"WHERE d.route = {at:d}"
        )[0]
        return int(found[0]), int(found[1])

    def _answers(self, release_id: str) -> str:
        columns = "fingerprint, status, latency_seconds, reused"
        ours = self._session.relation(self._application, "completions")
        theirs = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        release = literal(release_id)
        return (
            f"SELECT {columns} FROM {ours} WHERE release_id = {release} UNION ALL "
            f"SELECT {columns} FROM {theirs} t WHERE release_id = {release} "
            f"AND NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.release_id = {release} AND o.fingerprint = t.fingerprint)"
        )


def in_share(document_id: str, rollout_id: str, share: float) -> str:
    """SQL that is true for the documents of a share; the number drawn is that of `rollout.routing.place_of`."""
    # The length keeps ids apart that would run into each other.
    drawn = f"sha256({literal(f'{len(rollout_id)}:{rollout_id}:')} || {document_id})"
    return f"(('0x' || substr({drawn}, 1, 14))::UBIGINT / 72057594037927936.0 < {literal(repr(share))}::DOUBLE)"


def route_of(routes: Sequence[Route]) -> str:
    """SQL for the place of a document's route, the oldest first; NULL is the champion."""
    cases = " ".join(
        f"WHEN {in_share('document_id', one.rollout_id, one.share)} THEN {at}" for at, one in enumerate(routes)
    )
    return f"CASE {cases} END" if cases else "NULL::INTEGER"


def asked(documents: AskedDocuments, references: str) -> str:
    """SQL that is true for a document `d` that a release is asked about.

    Args:
        references: Relation of known answers.
    """
    conditions = [in_share("d.document_id", one.rollout_id, one.share) for one in documents.shares]
    if documents.known:
        conditions.append(f"d.document_id IN (SELECT r.document_id FROM {references} r)")
    return f"({' OR '.join(conditions)})" if conditions else "false"
