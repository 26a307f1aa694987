"""Documents that are asked about in parts: every part once, then one answer out of theirs.

Parts are rows of the same ledger under a release of their own: paid once, journalled, and found again after a kill like
any answer. A document's own row is derived from them and stored last. While it is missing, the document is cut again,
which gives the same parts, and only those that are not stored are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from llm_platform.errors import RequestRejected
from llm_platform.inference.answers import ReadAnswer
from llm_platform.inference.parts import (
    document_completion,
    failed_parts,
    parts_release,
    put_together,
    together_release,
)
from llm_platform.operations.answering.account import Helpers
from llm_platform.operations.answering.fitting import BudgetedRenderer, LongDocument
from llm_platform.operations.answering.levels import Levels
from llm_platform.records import Completion, CompletionStatus, DocumentRow, Release
from llm_platform.records.tables import MADE_OF_SCHEMA
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.store import ApplicationStore

CUT_AT_ONCE = 64
"""Documents that are cut before the first of their parts is sent."""
PUT_TOGETHER_AT_ONCE = 500


def take_over_whole_answers(store: ApplicationStore, release: Release) -> int:
    """Store what was answered under another rule for long documents; returns how many answers that spared.

    About a document that fits, every rule asks the same.
    """
    wanted, own = release.whole_id, release.release_id
    stored = map(Release.model_validate_json, store.releases.table()["content"].to_pylist())
    senders = {one.release_id for one in stored if one.calibration is None and one.whole_id == wanted} - {own}
    if not senders or not store.completions.missing_count(own):
        return 0
    return sum(store.completions.take_over(release, sender) for sender in sorted(senders))


class InParts:
    """Answers the documents that a renderer has left alone; `lease` covers them."""

    def __init__(
        self,
        store: ApplicationStore,
        release: Release,
        renderer: BudgetedRenderer,
        *,
        lease: Lease,
        helpers: Helpers,
        run_id: str,
        snapshot: int | None,
    ) -> None:
        self._store, self._release, self._renderer, self._helpers = store, release, renderer, helpers
        self._lease, self._run_id, self._snapshot = lease, run_id, snapshot
        self._parts, self._together = parts_release(release), together_release(release)
        self._keys: dict[str, tuple[str, ...] | str] = {}
        """Fingerprint of a document → those of its parts, or why it has none."""
        self._begins: dict[str, list[int]] = {}
        """Fingerprint of a document → where its parts begin."""

    def answer(self) -> None:
        """Ask about all parts, then store one answer per document.

        Raises:
            As `answering.completions.answer`.
        """
        long = self._renderer.long
        for helper in (self._parts, self._together):
            if helper is not None:
                self._store.releases.put(helper)
                self._helpers.recover(helper)
        total = sum(self._renderer.parts_expected(document) for document in long)
        if not self._helpers.ask(self._parts, self._missing_parts(long), total=total):
            return
        for chunk in _chunks(long, PUT_TOGETHER_AT_ONCE):
            if not self._put_together(chunk):
                return

    def _missing_parts(self, long: Sequence[LongDocument]) -> Iterator[list[DocumentRow]]:
        """Parts without an answer, each once; documents are cut while those before them are asked about."""
        known: set[str] = set()
        for chunk in _chunks(long, CUT_AT_ONCE):
            parts = {part.fingerprint: part for row, document in self._rows(chunk) for part in self._cut(row, document)}
            new = [key for key in parts if key not in known]
            known.update(new)
            stored = {one.fingerprint for one in self._answers(self._parts, new).values()}
            yield [parts[key] for key in new if key not in stored]

    def _cut(self, row: DocumentRow, document: LongDocument) -> list[DocumentRow]:
        try:
            parts = self._renderer.parts(row, document)
        except RequestRejected as error:
            self._keys[document.fingerprint] = str(error)
            return []
        self._keys[document.fingerprint] = tuple(part.fingerprint for part in parts)
        self._begins[document.fingerprint] = _begins(row.text, [part.text for part in parts])
        return parts

    def _rows(self, documents: Sequence[LongDocument]) -> Iterator[tuple[DocumentRow, LongDocument]]:
        """Texts of documents, without those whose text has changed meanwhile."""
        listed = {document.document_id: document for document in documents}
        for row in self._store.documents.rows(sorted(listed)):
            document = listed[row["document_id"]]
            if row["fingerprint"] == document.fingerprint:
                yield DocumentRow.model_validate(row), document

    def _answers(self, release: Release, keys: Sequence[str]) -> dict[str, Completion]:
        return {one.fingerprint: one for one in self._store.completions.records(release.release_id, keys)}

    def _put_together(self, documents: Sequence[LongDocument]) -> bool:
        """Store the answers to documents whose parts are all stored; False where a budget stopped it."""
        keys = [key for document in documents for key in self._part_keys(document)]
        answers = self._answers(self._parts, keys)
        complete = {
            document.fingerprint: [answers[key] for key in self._part_keys(document)]
            for document in documents
            if document.fingerprint in self._keys and all(key in answers for key in self._part_keys(document))
        }
        readings = {key: reading for key, parts in complete.items() if (reading := self._by_rule(key, parts))}
        asked: dict[str, list[Completion]] = {}
        if self._together is not None and len(readings) < len(complete):
            rows = [(row, complete[row.fingerprint]) for row, _ in self._rows(documents) if row.fingerprint in complete]
            levels = Levels(self._store, self._together, self._helpers)
            if not levels.run([(row, parts) for row, parts in rows if row.fingerprint not in readings]):
                return False
            readings |= levels.readings
            asked = levels.asked
        self._store_rows(documents, complete, readings, asked)
        return True

    def _part_keys(self, document: LongDocument) -> tuple[str, ...]:
        keys = self._keys.get(document.fingerprint, ())
        return () if isinstance(keys, str) else keys

    def _by_rule(self, fingerprint: str, parts: Sequence[Completion]) -> ReadAnswer | None:
        """The answer, or why there is none; None where it has to be asked for."""
        reason = self._keys[fingerprint]
        if isinstance(reason, str):
            return ReadAnswer(CompletionStatus.REJECTED, reason=reason)
        if (failed := failed_parts(parts)) is not None:
            return failed
        return put_together(self._release, parts) if self._together is None else None

    def _store_rows(
        self,
        documents: Sequence[LongDocument],
        complete: Mapping[str, Sequence[Completion]],
        readings: Mapping[str, ReadAnswer],
        asked: Mapping[str, Sequence[Completion]],
    ) -> None:
        since = self._store.releases.stored_at(self._release.release_id) or datetime.min.replace(tzinfo=UTC)
        rows: list[Completion] = []
        pieces: dict[str, list[Completion]] = {}
        for document in documents:
            reading = readings.get(document.fingerprint)
            if reading is None:
                continue
            parts = complete[document.fingerprint]
            made_of = [*parts, *asked.get(document.fingerprint, ())]
            paid = [one for one in made_of if one.document_id == document.document_id and one.created_at >= since]
            blank = _blank(
                self._release,
                document,
                endpoint=made_of[0].endpoint if made_of else "",
                run_id=self._run_id,
                snapshot=self._snapshot,
                created_at=datetime.now(UTC),
            )
            pieces[document.fingerprint] = made_of
            rows.append(
                document_completion(self._release, blank, reading, parts=len(parts), made_of=made_of, paid=paid)
            )
        self._helpers.account.stored += self._store.completions.append(
            self._lease, rows, made_of=_made_of(self._release, pieces, self._begins)
        )
        self._helpers.account.failed += sum(row.status is not CompletionStatus.VALID for row in rows)


def answer_of_parts(
    release: Release,
    row: DocumentRow,
    parts: Sequence[Completion],
    *,
    joined: ReadAnswer | None = None,
    asked: Sequence[Completion] = (),
    paid: Sequence[Completion],
    run_id: str,
) -> Completion:
    """The answer to a document out of those to its parts in order, as a run stores it.

    Args:
        joined: What a model made of them; None where rules do.
        asked: What it was asked for that.
        paid: Those of `parts` and `asked` that were asked for it now.
    """
    blank = _blank(
        release,
        row,
        endpoint=parts[0].endpoint,
        run_id=run_id,
        snapshot=None,
        created_at=max(one.created_at for one in (*parts, *asked)),
    )
    reading = joined or failed_parts(parts) or put_together(release, parts)
    return document_completion(release, blank, reading, parts=len(parts), made_of=[*parts, *asked], paid=paid)


def _blank(
    release: Release,
    document: DocumentRow | LongDocument,
    *,
    endpoint: str,
    run_id: str,
    snapshot: int | None,
    created_at: datetime,
) -> Completion:
    return Completion(
        release_id=release.release_id,
        request_id=release.request_id,
        fingerprint=document.fingerprint,
        document_id=document.document_id,
        status=CompletionStatus.INVALID,
        answer=None,
        endpoint=endpoint,
        run_id=run_id,
        documents_snapshot=snapshot,
        created_at=created_at,
    )


def _begins(text: str, parts: Sequence[str]) -> list[int]:
    """Where each part begins in the text that it was cut from; a part begins behind the one before it."""
    begins: list[int] = []
    for part in parts:
        begins.append(max(text.find(part, begins[-1] + 1 if begins else 0), begins[-1] if begins else 0))
    return begins


def _made_of(
    release: Release, pieces: Mapping[str, Sequence[Completion]], begins: Mapping[str, Sequence[int]]
) -> pa.Table:
    rows = [
        {
            "release_id": release.release_id,
            "fingerprint": key,
            "position": position,
            "of_release_id": one.release_id,
            "of_fingerprint": one.fingerprint,
            "begins": begins[key][position] if position < len(begins.get(key, ())) else None,
        }
        for key, made_of in pieces.items()
        for position, one in enumerate(made_of)
    ]
    return pa.Table.from_pylist(rows, schema=MADE_OF_SCHEMA)


def _chunks(documents: Sequence[LongDocument], size: int) -> Iterator[Sequence[LongDocument]]:
    for start in range(0, len(documents), size):
        yield documents[start : start + size]
