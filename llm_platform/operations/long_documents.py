"""Documents that are asked about in parts: every part once, then one answer out of theirs.

Parts are rows of the same ledger under a release of their own: paid once, journalled, and found again after a kill like
any answer. A document's own row is derived from them and stored last. While it is missing, the document is cut again,
which gives the same parts, and only those that are not stored are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from llm_platform.errors import RequestRejected
from llm_platform.inference.answers import Reading
from llm_platform.inference.parts import (
    document_completion,
    failed_parts,
    parts_release,
    put_together,
    together_release,
)
from llm_platform.operations.fitting import BudgetedRenderer, LongDocument, together_row
from llm_platform.records import Completion, CompletionStatus, DocumentRow, InferenceRun, Release, TokenUsage
from llm_platform.warehouse.store import ApplicationStore

CUT_AT_ONCE = 64
"""Documents that are cut before the first of their parts is sent."""
PUT_TOGETHER_AT_ONCE = 500

Rows = Iterable[Sequence[DocumentRow]]


class Helpers(Protocol):
    """Asks for the answers of releases that only serve others, and stores them."""

    @property
    def account(self) -> Account:
        """What has been asked so far."""

    def renderer(self, release: Release) -> BudgetedRenderer:
        """What renders the prompts of a helper."""

    def recover(self, release: Release) -> None:
        """Store what a run that died had received for a helper."""

    def ask(self, release: Release, batches: Rows, *, total: int) -> bool:
        """Whether all was asked for; False where a budget stopped it."""


@dataclass
class Account:
    """What answering took, helpers included; `stored` and `failed` are documents that were asked about in parts."""

    runs: list[InferenceRun] = field(default_factory=list)
    stored: int = 0
    failed: int = 0

    @property
    def is_stopped(self) -> bool:
        """Whether a budget has ended it."""
        return any(cause.startswith("stopped_") for run in self.runs for cause in run.causes)

    @property
    def run(self) -> InferenceRun:
        """All of it as one run of the documents' own release."""
        first, others = self.runs[0], self.runs[1:]
        if not others:
            return first
        causes = Counter(first.causes)
        for run in others:
            # Of parts, not of documents.
            causes.update({_of_part(cause): count for cause, count in run.causes.items()})
        usage = {name: sum(getattr(run.usage, name) for run in self.runs) for name in TokenUsage.model_fields}
        slowest = max(self.runs, key=lambda run: run.sent)
        return slowest.model_copy(
            update={
                "release_id": first.release_id,
                "started_at": first.started_at,
                "seconds": sum(run.seconds for run in self.runs),
                "sent": sum(run.sent for run in self.runs),
                "stored": first.stored + self.stored,
                "failed": first.failed + self.failed,
                "retries": sum(run.retries for run in self.runs),
                "usage": TokenUsage(**usage),
                "wasted_tokens": sum(run.wasted_tokens for run in self.runs),
                "concurrency": max(run.concurrency for run in self.runs),
                "causes": dict(causes),
            }
        )


class InParts:
    """Answers the documents that a renderer has left alone."""

    def __init__(
        self,
        store: ApplicationStore,
        release: Release,
        renderer: BudgetedRenderer,
        *,
        helpers: Helpers,
        run_id: str,
        snapshot: int | None,
    ) -> None:
        self._store, self._release, self._renderer, self._helpers = store, release, renderer, helpers
        self._run_id, self._snapshot = run_id, snapshot
        self._parts, self._together = parts_release(release), together_release(release)
        self._keys: dict[str, tuple[str, ...] | str] = {}
        """Fingerprint of a document → those of its parts, or why it has none."""

    def answer(self) -> None:
        """Ask about all parts, then store one answer per document.

        Raises:
            As `operations.completions.answer`.
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
            levels = _Levels(self._store, self._together, self._helpers)
            if not levels.run([(row, parts) for row, parts in rows if row.fingerprint not in readings]):
                return False
            readings |= levels.readings
            asked = levels.asked
        self._store_rows(documents, complete, readings, asked)
        return True

    def _part_keys(self, document: LongDocument) -> tuple[str, ...]:
        keys = self._keys.get(document.fingerprint, ())
        return () if isinstance(keys, str) else keys

    def _by_rule(self, fingerprint: str, parts: Sequence[Completion]) -> Reading | None:
        """The answer, or why there is none; None where it has to be asked for."""
        reason = self._keys[fingerprint]
        if isinstance(reason, str):
            return Reading(CompletionStatus.REJECTED, reason=reason)
        if (failed := failed_parts(parts)) is not None:
            return failed
        return put_together(self._release, parts) if self._together is None else None

    def _store_rows(
        self,
        documents: Sequence[LongDocument],
        complete: Mapping[str, Sequence[Completion]],
        readings: Mapping[str, Reading],
        asked: Mapping[str, Sequence[Completion]],
    ) -> None:
        since = self._store.releases.stored_at(self._release.release_id) or datetime.min.replace(tzinfo=UTC)
        rows = []
        for document in documents:
            reading = readings.get(document.fingerprint)
            if reading is None:
                continue
            parts = complete[document.fingerprint]
            made_of = [*parts, *asked.get(document.fingerprint, ())]
            paid = [one for one in made_of if one.document_id == document.document_id and one.created_at >= since]
            blank = self._blank(document, made_of[0].endpoint if made_of else "")
            rows.append(
                document_completion(self._release, blank, reading, parts=len(parts), made_of=made_of, paid=paid)
            )
        with self._store.completions.lease(self._release.release_id, holder=self._run_id) as lease:
            self._helpers.account.stored += self._store.completions.append(lease, rows)
        self._helpers.account.failed += sum(row.status is not CompletionStatus.VALID for row in rows)

    def _blank(self, document: LongDocument, endpoint: str) -> Completion:
        return Completion(
            release_id=self._release.release_id,
            request_id=self._release.request_id,
            fingerprint=document.fingerprint,
            document_id=document.document_id,
            status=CompletionStatus.INVALID,
            answer=None,
            endpoint=endpoint,
            run_id=self._run_id,
            documents_snapshot=self._snapshot,
            created_at=datetime.now(UTC),
        )


class _Levels:
    """Answers to parts put together by a prompt: all of them where they fit, else in groups, and those again.

    Attributes:
        readings: Fingerprint of a document → its answer, or why it has none.
        asked: Fingerprint of a document → what was asked to put its parts together.
    """

    def __init__(self, store: ApplicationStore, together: Release, helpers: Helpers) -> None:
        self._store, self._together, self._helpers = store, together, helpers
        self._renderer = helpers.renderer(together)
        self.readings: dict[str, Reading] = {}
        self.asked: dict[str, list[Completion]] = {}

    def run(self, documents: Sequence[tuple[DocumentRow, Sequence[Completion]]]) -> bool:
        """Put together what can be; False where a budget stopped it."""
        pending = {row.fingerprint: (row, [part.answer or "" for part in parts]) for row, parts in documents}
        while pending:
            groups = {key: found for key, one in pending.items() if (found := self._grouped(*one)) is not None}
            questions = {
                question.fingerprint: question
                for key, found in groups.items()
                for question in self._questions(pending[key][0], found)
            }
            stored = {one.fingerprint for one in self._records(list(questions))}
            missing = [question for key, question in questions.items() if key not in stored]
            if missing and not self._helpers.ask(self._together, [missing], total=len(missing)):
                return False
            said = {one.fingerprint: one for one in self._records(list(questions))}
            level = ((key, self._next(pending[key][0], found, said)) for key, found in groups.items())
            pending = {key: (pending[key][0], answers) for key, answers in level if answers is not None}
        return True

    def _records(self, keys: Sequence[str]) -> Iterator[Completion]:
        return self._store.completions.records(self._together.release_id, keys)

    def _grouped(self, row: DocumentRow, answers: Sequence[str]) -> list[list[str]] | None:
        try:
            found = self._renderer.together(row, answers)
        except RequestRejected as error:
            self.readings[row.fingerprint] = Reading(CompletionStatus.REJECTED, reason=str(error))
            return None
        if found is None:
            reason = (
                f"the answers to {len(answers)} parts cannot be put together: not even two of them fit the prompt of "
                "long_documents. Lower max_tokens, or ask for shorter answers."
            )
            self.readings[row.fingerprint] = Reading(CompletionStatus.REJECTED, reason=reason)
        return found

    def _questions(self, row: DocumentRow, groups: Sequence[Sequence[str]]) -> list[DocumentRow]:
        return [together_row(self._together, row, group) for group in groups if self._is_asked(group, groups)]

    @staticmethod
    def _is_asked(group: Sequence[str], groups: Sequence[Sequence[str]]) -> bool:
        """One answer beside other groups waits for the next level as it is."""
        return len(group) > 1 or len(groups) == 1

    def _next(
        self, row: DocumentRow, groups: Sequence[Sequence[str]], said: Mapping[str, Completion]
    ) -> list[str] | None:
        """The answers of the next level; None where there is none, because this one was the last, or has failed."""
        answers = []
        for group in groups:
            if not self._is_asked(group, groups):
                answers.append(group[0])
                continue
            found = said.get(together_row(self._together, row, group).fingerprint)
            if found is None:
                return None  # the endpoint gave none; the document stays missing
            self.asked.setdefault(row.fingerprint, []).append(found)
            if found.status is not CompletionStatus.VALID or len(groups) == 1:
                self.readings[row.fingerprint] = _reading(found)
                return None
            answers.append(found.answer or "")
        return answers


def _reading(found: Completion) -> Reading:
    valid = found.status is CompletionStatus.VALID
    return Reading(
        found.status,
        answer=found.answer,
        reason=found.reason if valid else f"putting the answers to the parts together: {found.reason}",
        raw=found.raw,
        confidence=found.confidence,
        label_logprobs=found.label_logprobs,
        finish_reason=found.finish_reason,
    )


def _chunks(documents: Sequence[LongDocument], size: int) -> Iterator[Sequence[LongDocument]]:
    for start in range(0, len(documents), size):
        yield documents[start : start + size]


def _of_part(cause: str) -> str:
    return cause if cause.startswith(("retry_", "stopped_")) else f"part_{cause}"
