"""`completions`: the ledger of answers, exactly one per (release, fingerprint)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.errors import ContractBroken
from llm_platform.records import Completion, Release, TokenUsage, content_hash, json_lines
from llm_platform.records.rollout import AskedDocuments
from llm_platform.records.tables import MADE_OF_SCHEMA
from llm_platform.warehouse.answered import AnsweredTexts, OnlineLease
from llm_platform.warehouse.engine import execute, identifier, json_pointer, literal, one_of
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.holders import ALL_BUCKETS, Holder
from llm_platform.warehouse.holders import COLUMNS as LEASED
from llm_platform.warehouse.kept_rows import KeptRows
from llm_platform.warehouse.leases import Lease, stored_leases
from llm_platform.warehouse.ledger import LISTED, commit, in_file, stage
from llm_platform.warehouse.missing import MissingSize, MissingTexts, missing_keys
from llm_platform.warehouse.session import UPSTREAM, Session, Transaction
from llm_platform.warehouse.tallies import AnswersTally, Tallies
from llm_platform.warehouse.watch import AnswersWatch

MEASURED_TEXTS, ENOUGH_TEXTS, SAID_ROWS = 4_000, 1_000, 10_000
DATA_VERSION_COLUMNS = ("fingerprint", "status", "answer", "confidence")
ANSWERED_COLUMNS = (
    "d.document_id, d.fingerprint, d.bucket, d.attributes, c.status, c.answer, c.confidence, c.label_logprobs, "
    "c.raw, c.reason, "
    "c.finish_reason, c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.reasoning_tokens, "
    "c.latency_seconds, c.reused, c.run_id"
)


@dataclass(frozen=True)
class MeasuredTokens:
    """A straight line through the tokens of stored answers.

    Attributes:
        answers: How many answers it is drawn through.
        per_byte: Prompt tokens for each byte of a text; None where all texts have one length.
        fixed: Prompt tokens beside the text.
        completion: Mean tokens of an answer.
    """

    answers: int
    per_byte: float | None
    fixed: float
    completion: float


@dataclass(frozen=True)
class LongDocumentCounts:
    """Documents of one release that do not fit the model's context, beside those that were refused.

    Attributes:
        cut, cut_tokens: Those whose end was cut off, and what was.
        split, parts: Those that were asked about in parts, and how many parts; `split_failed` have no valid answer.
    """

    cut: int
    cut_tokens: int
    split: int
    parts: int
    split_failed: int


class SaidAlike(NamedTuple):
    """Documents that a release says the same of.

    Attributes:
        impossible: Whether their confidence is no probability.
        first: The first of their keys.
    """

    status: str
    answer: str | None
    impossible: bool
    documents: int
    first: str


class Completions:
    """Answers of one application. Reading methods see the upstream's answers too; ours come first."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def lease(self, release_id: str, *, holder: str, ttl_seconds: float = 60.0, bucket: int | None = None) -> Lease:
        """The right to store answers of a release, to be used in a `with` block, which raises LeaseHeld when another
        has it.

        Args:
            holder: Who asks, e.g. a run id; shown to others that ask meanwhile.
            ttl_seconds: How long the lease outlives a holder that has fallen silent; it is renewed every third of that.
            bucket: Cover one bucket of documents only; None covers all.
        """
        wanted = [ALL_BUCKETS if bucket is None else bucket]
        return self._lease(release_id, holder=holder, ttl_seconds=ttl_seconds, wanted=wanted)

    def shared_lease(self, release_id: str, *, holder: str, ttl_seconds: float = 60.0) -> Lease:
        """A lease that covers no bucket yet, for a process that shares the work with others: see `Lease.claim`."""
        return self._lease(release_id, holder=holder, ttl_seconds=ttl_seconds, wanted=[])

    def holders(self, release_id: str) -> list[Holder]:
        """Live leases on a release, by bucket."""
        coordinator = self._session.coordinator
        now = coordinator.now()
        with coordinator.transaction(f"{self._application}/{release_id}") as statements:
            found = stored_leases(statements, coordinator.leases, self._application, release_id)
        return sorted((one for one in found if one.is_live(now)), key=lambda one: one.bucket)

    def busy(self) -> Holder | None:
        """Somebody who is answering documents of the application at this moment, whatever the release."""
        coordinator = self._session.coordinator
        now = coordinator.now()
        with coordinator.transaction(f"{self._application}/busy") as statements:
            rows = statements.run(
                f"SELECT {LEASED} FROM {coordinator.leases} WHERE application = %s", [self._application]
            )
        return next((one for one in (Holder(*row) for row in rows) if one.is_live(now)), None)

    def _lease(self, release_id: str, *, holder: str, ttl_seconds: float, wanted: Collection[int]) -> Lease:
        return Lease(
            self._session.coordinator,
            self._application,
            release_id,
            holder=holder,
            ttl_seconds=ttl_seconds,
            wanted=wanted,
        )

    def missing(self, release_id: str, *, limit: int | None = None, buckets: Collection[int] | None = None) -> pa.Table:
        """One row (document_id, fingerprint, text, attributes, bucket) per sendable text without an answer, by key.

        With `buckets`, of those only. A text is in the bucket of its smallest document.
        """
        return self._session.table(self._missing_sql(release_id, limit=limit, buckets=buckets))

    def missing_texts(
        self, release_id: str, *, buckets: Collection[int] | None = None, documents: AskedDocuments | None = None
    ) -> MissingTexts:
        """The same for a run: found by one look, read as it goes on, in the order that caches of prefixes like."""
        return MissingTexts(self._session, self._application, release_id, buckets=buckets, documents=documents)

    def missing_count(
        self, release_id: str, *, buckets: Collection[int] | None = None, documents: AskedDocuments | None = None
    ) -> int:
        """How many texts have no answer, of some buckets or documents, or all."""
        if buckets is None and documents is None:
            return self.tally(release_id).missing
        sql = f"SELECT count(*) FROM ({self._missing_keys(release_id, buckets=buckets, documents=documents)})"
        return int(self._session.sparingly(lambda: self._session.value(sql)))

    def watch(self, release_id: str) -> AnswersWatch:
        """Tells which answers of a release others store from now on."""
        return AnswersWatch(self._session, self._application, release_id)

    def online_lease(self, release_id: str, *, holder: str, ttl_seconds: float = 60.0) -> OnlineLease:
        """A lease for whoever answers texts one by one, as they come; with it, which texts have been answered.

        Raises:
            StorageError: the lake cannot be read.
        """
        lease = OnlineLease(
            self._session.coordinator,
            self._application,
            release_id,
            holder=holder,
            ttl_seconds=ttl_seconds,
            wanted=[],
        )
        # What others store from here on is in the watch, what they have stored before in the answered texts.
        lease.watch = self.watch(release_id)
        lease.answered = AnsweredTexts(self._session, self._application, release_id)
        lease.answered.look()
        return lease

    def missing_size(
        self, release_id: str, *, room_bytes: int | None = None, documents: AskedDocuments | None = None
    ) -> MissingSize:
        """How many texts have no answer, their length, and how many are longer than `room_bytes`."""
        relation = self._session.relation(self._application, "documents")
        sql = (
            "SELECT count(*), coalesce(sum(size), 0)::BIGINT, count(*) FILTER (size > $room), "
            "coalesce(sum(size) FILTER (size > $room), 0)::BIGINT, "
            "coalesce(sum(ceil(size / $room)) FILTER (size > $room), 0)::BIGINT "
            f"FROM (SELECT strlen(d.text) AS size FROM {relation} d "
            f"SEMI JOIN ({self._missing_keys(release_id, documents=documents)}) k ON k.document_id = d.document_id)"
        )
        # No text has so many bytes.
        room = {"room": 2**40 if room_bytes is None else room_bytes}
        found = self._session.sparingly(lambda: self._session.rows(sql, room))
        return MissingSize(*map(int, found[0]))

    def measured_tokens(self, release_id: str) -> MeasuredTokens | None:
        """What the stored answers of a release took, against the length of their texts; None before the first."""
        tallies, name = Tallies(self._session, self._application), f"tokens/{release_id}"
        if (kept := tallies.recall(name)) is not None:
            return MeasuredTokens(**kept)
        measured = self._measure_tokens(release_id)
        if measured is not None and measured.answers >= ENOUGH_TEXTS:
            # More of them would tell the same.
            tallies.remember(name, asdict(measured))
        return measured

    def _measure_tokens(self, release_id: str) -> MeasuredTokens | None:
        documents = self._session.relation(self._application, "documents")
        # Some thousands say how long a token is; a pass over all texts would take longer than what it tells.
        some = (
            f"(SELECT fingerprint, any_value(strlen(text)) AS size FROM (SELECT fingerprint, text FROM {documents} "
            f"WHERE status = 'sendable' LIMIT {MEASURED_TEXTS:d}) GROUP BY 1)"
        )
        found = self._session.rows(
            "SELECT count(*), regr_slope(c.prompt_tokens, d.size), "
            "regr_intercept(c.prompt_tokens, d.size), avg(c.prompt_tokens), avg(c.completion_tokens) "
            f"FROM {self._answers('release_id')} c JOIN {some} d USING (fingerprint) "
            "WHERE NOT c.reused AND c.prompt_tokens > 0",
            {"key": release_id},
        )[0]
        if not found[0]:
            return None
        # Texts of one length say nothing about a token's length.
        slope = found[1] if found[1] is not None and found[1] > 0 else None
        return MeasuredTokens(
            answers=int(found[0]),
            per_byte=slope,
            fixed=found[2] if slope is not None else found[3],
            completion=found[4],
        )

    def append(self, lease: Lease, rows: Sequence[Completion], *, made_of: pa.Table | None = None) -> int:
        """Store answers whose key is missing, here and upstream; returns how many were stored.

        Args:
            made_of: What answers rest on that were put together, in `MADE_OF_SCHEMA`; stored with them, or not at all.

        Raises:
            LeaseHeld: the lease was taken over; nothing was stored.
            ContractBroken: rows belong to another release than the lease.
        """
        return self.append_lines(lease, json_lines(rows), made_of=made_of)

    def append_lines(self, lease: Lease, lines: Sequence[bytes], *, made_of: pa.Table | None = None) -> int:
        """The same for lines of their JSON, with all fields."""
        with in_file(lines) as file:
            return self._write(file, lease, made_of=made_of)

    def append_file(self, lease: Lease, file: Path) -> int:
        """The same for a file of such lines."""
        return self._write(file, lease)

    def restore(self, rows: Sequence[Completion]) -> int:
        """Store answers that nobody pays for any more, without a lease: recovered from a journal, or derived.

        Returns how many of them had been missing. Who holds their buckets may store the same keys before or after.
        """
        with in_file(json_lines(rows)) as file:
            return self._write(file, None)

    def discard(self, release_ids: Sequence[str], run_id: str) -> int:
        """Take back what a run has stored for releases: it was not answered by what they name. Returns how many."""

        def body(transaction: Transaction) -> int:
            if not self._session.exists(self._application, "completions"):
                return 0
            target = transaction.target("completions")
            return transaction.count(
                f"DELETE FROM {target} WHERE run_id = $run AND NOT reused AND release_id IN "
                "(SELECT unnest($releases::VARCHAR[]))",
                {"run": run_id, "releases": list(release_ids)},
            )

        with self._session.errors("take answers back from"):
            return self._session.write(self._application, body)[0]

    def _write(self, file: Path, lease: Lease | None, *, made_of: pa.Table | None = None) -> int:
        with self._session.cursor("store completions in") as cursor:
            if not stage(cursor, file):
                return 0
            if lease is not None:
                self._require_release(cursor, lease)
            if made_of is not None:
                cursor.register("listed", made_of.cast(MADE_OF_SCHEMA))
                cursor.execute("CREATE TEMP TABLE made_of AS SELECT * FROM listed")
            with_parts = made_of is not None
            return commit(self._session, self._application, cursor, lease=lease, with_parts=with_parts)

    def _require_release(self, cursor: duckdb.DuckDBPyConnection, lease: Lease) -> None:
        releases = {row[0] for row in cursor.execute("SELECT DISTINCT release_id FROM answers").fetchall()}
        if releases != {lease.release_id} or lease.application != self._application:
            raise ContractBroken(
                f"The lease covers release {lease.release_id!r} of {lease.application!r}; the rows belong to "
                f"{sorted(releases)} "
                f"of {self._application!r}. Take a lease for each release."
            )

    def take_over(self, release: Release, source_id: str) -> int:
        """Store, for `release`, what another one was answered when it sent the same; returns how many.

        Only answers to whole documents: those two releases differ in what they do with long ones. Needs no lease, as
        `restore`.
        """
        with self._session.cursor("store completions in") as cursor:
            execute(
                cursor,
                "CREATE TEMP TABLE answers AS SELECT * REPLACE ($to AS release_id, $request AS request_id, "
                f"true AS reused, now() AS created_at) FROM {self._answers('release_id')} "
                "WHERE cut_tokens IS NULL AND parts IS NULL AND status NOT IN ('rejected', 'failed')",
                {"key": source_id, "to": release.release_id, "request": release.request_id},
            )
            return commit(self._session, self._application, cursor, lease=None, with_parts=False)

    def of_release(self, release_id: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All answers of a release, in the order of their document keys."""
        selected = ", ".join(identifier(column) for column in columns) if columns else "*"
        return self._session.table(
            f"SELECT {selected} FROM {self._answers('release_id')} ORDER BY document_id, fingerprint",
            {"key": release_id},
        )

    def records(self, release_id: str, fingerprints: Sequence[str]) -> Iterator[Completion]:
        """Answers of a release to some texts."""
        sql = (
            f"SELECT {LISTED} FROM {self._answers('release_id')} "
            "WHERE fingerprint IN (SELECT unnest($fingerprints::VARCHAR[]))"
        )
        table = self._session.table(sql, {"key": release_id, "fingerprints": list(fingerprints)})
        return completion_rows(table)

    def of_request(self, request_id: str) -> pa.Table:
        """Answers to the same requests, of whichever release; one per fingerprint, one that was really sent "
        "first."""
        return self._session.table(
            f"SELECT * FROM {self._answers('request_id')} "
            "QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY reused, release_id) = 1 "
            "ORDER BY document_id, fingerprint",
            {"key": request_id},
        )

    def answered(self, release_id: str, *, document_ids: Sequence[str] | None = None) -> pa.Table:
        """One row per document that has an answer, in the order of the keys; equal texts share theirs.

        With `document_ids`, of those only: neither table is read whole, and what is read is kept.
        """
        if document_ids is None:
            documents = self._session.relation(self._application, "documents")
            return self._session.table(
                f"SELECT {ANSWERED_COLUMNS} FROM {documents} d JOIN {self._answers('release_id')} c "
                "USING (fingerprint) WHERE d.status = 'sendable' ORDER BY d.document_id",
                {"key": release_id},
            )
        found = KeptRows(self._session, self._application).rows(
            f"answered/{release_id}",
            document_ids,
            lambda keys: self._answered_or_not(release_id, keys),
            of=[ANSWERED_COLUMNS],
            with_answers=True,
        )
        return found.filter(pc.is_valid(found["status"]))

    def _answered_or_not(self, release_id: str, document_ids: Sequence[str]) -> pa.Table:
        documents, answers = self._named(document_ids)
        return self._session.table(
            f"SELECT {ANSWERED_COLUMNS} FROM {documents} d LEFT JOIN {answers} c "
            "ON c.fingerprint = CASE WHEN d.status = 'sendable' THEN d.fingerprint END",
            {"key": release_id},
        )

    def _named(self, document_ids: Sequence[str]) -> tuple[str, str]:
        """SQL of these documents, and of what answers their texts."""
        documents = self._session.relation(self._application, "documents")
        named = f"(SELECT * FROM {documents} WHERE {one_of('document_id', document_ids)})"
        texts = self._session.rows(f"SELECT DISTINCT fingerprint FROM {named} WHERE status = 'sendable'")
        return named, self._answers_to([row[0] for row in texts])

    def _answers_to(self, fingerprints: Sequence[str]) -> str:
        """Answers of the release $key to these texts."""
        if self._session.has_upstream:
            return f"(SELECT * FROM {self._answers('release_id')} WHERE {one_of('fingerprint', fingerprints)})"
        stored = self._session.looked_up(self._application).answers(fingerprints)
        return f"(SELECT * FROM {stored} WHERE release_id = $key)"

    def said(self, release_id: str, *, document_ids: Sequence[str] | None = None) -> Iterator[SaidAlike]:
        """What a release says of documents, those that it says the same of together; read as it goes on."""
        documents = self._session.relation(self._application, "documents")
        answers = self._answers("release_id")
        if document_ids is not None:
            documents, answers = self._named(document_ids)
        sql = (
            "SELECT c.status, c.answer, coalesce(c.confidence < 0 OR c.confidence > 1, false), count(*), "
            f"min(d.document_id) FROM {documents} d JOIN {answers} c USING (fingerprint) WHERE d.status = 'sendable' "
            "GROUP BY 1, 2, 3"
        )
        with self._session.cursor() as cursor:
            self._session.sparingly(lambda: execute(cursor, sql, {"key": release_id}))
            while rows := cursor.fetchmany(SAID_ROWS):
                yield from (SaidAlike(*row) for row in rows)

    def tally(self, release_id: str) -> AnswersTally:
        """What a release has answered, in sums."""
        return Tallies(self._session, self._application).answers(release_id)

    def outside(self, release_id: str, *, by: str, without: Sequence[str]) -> tuple[int, ...]:
        """Sums of `RightSums` over answered documents, clustered by an attribute, else by their text.

        Args:
            by: The attribute.
            without: Texts that are left out.
        """
        documents = self._session.relation(self._application, "documents")
        cluster = f"coalesce(d.attributes ->> {literal(json_pointer(by))}, d.fingerprint)"
        found = self._session.rows(
            "SELECT coalesce(sum(n), 0), coalesce(sum(r), 0), count(*), coalesce(sum(n * n), 0), "
            "coalesce(sum(r * r), 0), coalesce(sum(n * r), 0) FROM ("
            f"SELECT count(*) AS n, count(*) FILTER (c.status = 'valid') AS r FROM {documents} d "
            f"JOIN {self._answers('release_id')} c USING (fingerprint) WHERE d.status = 'sendable' "
            f"AND NOT ({one_of('d.fingerprint', without)}) GROUP BY {cluster})",
            {"key": release_id},
        )
        return tuple(map(int, found[0]))

    def counts(self, release_id: str) -> dict[str, int]:
        """Status → number of answers of a release."""
        return dict(sorted(self.tally(release_id).ledger.counts["status"].items()))

    def has_valid(self, release_id: str) -> bool:
        """Whether a release has any valid answer; asked while a run is under way, so nothing is counted."""
        found = self._session.rows(
            f"SELECT 1 FROM {self._answers('release_id')} WHERE status = 'valid' LIMIT 1", {"key": release_id}
        )
        return bool(found)

    def long_documents(self, release_id: str) -> LongDocumentCounts:
        """How many answers of a release are to documents that do not fit the model's context."""
        numbers = self.tally(release_id).ledger.numbers
        return LongDocumentCounts(*(numbers[field.name] for field in fields(LongDocumentCounts)))

    def usage(self, release_id: str) -> TokenUsage:
        """Tokens paid for the answers of a release, reused ones not counted."""
        numbers = self.tally(release_id).ledger.numbers
        return TokenUsage(**{name: numbers[name] for name in TokenUsage.model_fields})

    def data_version(self, release_id: str, *, buckets: Collection[int] | None = None) -> str:
        """Hash of the answers to the documents as they are now; texts that nobody has any more do not count.

        With `buckets`, to the documents in these.
        """
        if buckets is None:
            return self.tally(release_id).data_version
        documents = self._session.relation(self._application, "documents")
        inside = f" AND bucket IN ({', '.join(f'{one:d}' for one in buckets)})"
        current = f"fingerprint IN (SELECT fingerprint FROM {documents} WHERE status = 'sendable'{inside})"
        sql = version_select(DATA_VERSION_COLUMNS, self._answers("release_id"), current)
        return version_of(self._session.rows(sql, {"key": release_id})[0])

    def judged_version(self, release_id: str) -> str:
        """Hash of every document as it is now with its answer, or with none: all that a report is measured on but the
        known answers. Unlike in `data_version`, equal texts count each, and so does what no prompt reads.
        """
        documents = Tallies(self._session, self._application).documents()
        return content_hash([documents.judged_version, self.tally(release_id).data_version])

    def _answers(self, key: str) -> str:
        """Answers with `key` = $key: ours, then those of the upstream that we lack."""
        ours = self._session.relation(self._application, "completions")
        if not self._session.has_upstream:
            return f"(SELECT {LISTED} FROM {ours} WHERE {key} = $key)"
        theirs = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        return (
            f"(SELECT {LISTED} FROM {ours} WHERE {key} = $key UNION ALL SELECT {LISTED} FROM {theirs} t WHERE {key} "
            "= $key "
            f"AND NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.release_id = t.release_id AND o.fingerprint = "
            "t.fingerprint))"
        )

    def _missing_keys(
        self, release_id: str, *, buckets: Collection[int] | None = None, documents: AskedDocuments | None = None
    ) -> str:
        return missing_keys(self._session, self._application, release_id, buckets=buckets, documents=documents)

    def _missing_sql(self, release_id: str, *, limit: int | None, buckets: Collection[int] | None) -> str:
        documents = self._session.relation(self._application, "documents")
        limited = "" if limit is None else f" LIMIT {limit:d}"
        return (
            f"SELECT d.document_id, d.fingerprint, d.text, d.attributes, d.bucket FROM {documents} d "
            f"SEMI JOIN ({self._missing_keys(release_id, buckets=buckets)}) k ON k.document_id = d.document_id "
            f"ORDER BY d.document_id{limited}"
        )


def completion_rows(table: pa.Table) -> Iterator[Completion]:
    """Stored rows as records."""
    for row in table.select(list(Completion.model_fields)).to_pylist():
        logprobs = row["label_logprobs"]
        yield Completion.model_validate({**row, "label_logprobs": json.loads(logprobs) if logprobs else None})
