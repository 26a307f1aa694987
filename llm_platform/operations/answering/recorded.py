"""Answers that another system gave, stored as those of a variant: judged and compared like any, paid for by nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llm_platform.application.model import Application
from llm_platform.application.source import TableRef
from llm_platform.application.variants import Predictions
from llm_platform.documents.prepare import require_possible
from llm_platform.errors import ContractBroken, TransientError
from llm_platform.inference.answers import AnswerReader
from llm_platform.operations.answering.documents import located
from llm_platform.operations.answering.redacting import redacted_answers
from llm_platform.operations.releases import LoadedApplication, recorded_release
from llm_platform.records import Completion, CompletionStatus, DocumentStatus, Release, canonical_json
from llm_platform.review.corrections import field_value
from llm_platform.tables.forms import one_form, text_of
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

ANSWER, CONFIDENCE = "answer", "confidence"
NOT_RECORDED, NO_LABEL = "no answer was recorded", "the recorded answer is none of the labels"
READ_AS_TEXT = ("integer", "number", "boolean", "list")
"""Types of fields that a file of text writes as text, and a JSON schema does not take so."""


@dataclass(frozen=True)
class RecordedAnswers:
    """What of a file of predictions belongs to documents that have no answer by it yet.

    Attributes:
        rows: To be stored.
        predicted: Rows of the file.
        unknown: Of them, those of no document.
        moved: Documents whose text is not the one any more that was answered: a recording cannot answer the new one.
        unequal: Documents that were answered otherwise than an earlier one with an equal text, which has one answer.
    """

    release: Release
    rows: list[Completion] = field(default_factory=list)
    predicted: int = 0
    unknown: int = 0
    moved: int = 0
    unequal: int = 0


def recorded_answers(lake: Warehouse, loaded: LoadedApplication, variant: str) -> RecordedAnswers:
    """The answers of a recorded variant that are not stored yet; nothing is written.

    Raises:
        ContractBroken: the file lacks a column, a key is missing or occurs twice, or a confidence is no probability.
        TransientError: it cannot be read, or is another file than when the application was read.
    """
    application, release = loaded.application, loaded.recorded[variant]
    store = lake.application(application.name)
    predicted = _predictions(lake, application, variant)
    redacted = redacted_answers({key: answer for key, (answer, _) in predicted.items()}, store, application)
    given = {key: (redacted[key], confidence) for key, (_, confidence) in predicted.items()}
    if recorded_release(application, variant).release_id != release.release_id:
        raise TransientError(
            f"The predictions of {application.name}/{variant} were written while they were read. Nothing was stored of "
            "them; run again."
        )
    documents = store.documents.some(list(given), ["document_id", "fingerprint", "status"]).to_pylist()
    stored = {
        row["document_id"]: row["fingerprint"]
        for row in store.completions.of_release(release.release_id, ["document_id", "fingerprint"]).to_pylist()
    }
    answered = set(stored.values())
    texts = {row["document_id"]: row["fingerprint"] for row in documents}
    reader, now = AnswerReader(release), datetime.now(UTC)
    rows: dict[str, Completion] = {}
    moved = unequal = 0
    for document in sorted(documents, key=lambda row: str(row["document_id"])):
        key, text = document["document_id"], document["fingerprint"]
        if key not in given or document["status"] != DocumentStatus.SENDABLE or text in answered:
            continue
        if key in stored:
            moved += 1
            continue
        row = _completion(given[key], release, reader, key=key, fingerprint=text, now=now)
        if text in rows:
            unequal += rows[text].answer != row.answer
            continue
        rows[text] = row
    return RecordedAnswers(
        release,
        list(rows.values()),
        predicted=len(given),
        unknown=sum(key not in texts for key in given),
        moved=moved,
        unequal=unequal,
    )


def store_recorded(store: ApplicationStore, found: RecordedAnswers) -> int:
    """Store what was found; how many rows had been missing."""
    store.releases.put(found.release)
    return store.completions.restore(found.rows) if found.rows else 0


def _predictions(lake: Warehouse, application: Application, variant: str) -> dict[str, tuple[str | None, float | None]]:
    """Document → answer as the file has it, in our words, and confidence."""
    spec = application.recordings[variant].predictions
    ref = located(TableRef(url=spec.url), application)
    wanted = spec.answer_columns(application.task, list(application.fields))
    present = lake.sources.columns(ref, [spec.key, *wanted.values()])
    confidence = spec.confidence or (CONFIDENCE if CONFIDENCE in present and CONFIDENCE not in wanted else None)
    columns = list(dict.fromkeys([spec.key, *wanted.values(), *([confidence] if confidence else [])]))
    missing = [name for name in columns if name not in present]
    if missing:
        raise ContractBroken(
            f"Predictions of {application.name}/{variant} in {spec.url!r} have no column "
            f"{', '.join(map(repr, missing))}; there are {', '.join(map(repr, present))}. Name the columns of the file "
            "under 'predictions' in application.yaml."
        )
    table = lake.sources.read(ref, columns, texts=[spec.key]).to_pylist()
    keys = [_text(row[spec.key]) for row in table]
    if None in keys or "" in keys or len(set(keys)) < len(keys):
        doubled = len(keys) - len(set(keys))
        raise ContractBroken(
            f"Predictions of {application.name}/{variant} in {spec.url!r}: "
            f"{sum(not key for key in keys)} rows have no {spec.key!r} and {doubled} repeat one. Nothing was written."
        )
    require_possible([str(key) for key in keys], f"the predictions of {application.name}/{variant} in {spec.url!r}")
    return {
        str(key): (_answer(row, wanted, spec, application), _probability(row, confidence, spec.url))
        for key, row in zip(keys, table, strict=True)
    }


def _answer(
    row: Mapping[str, Any], wanted: Mapping[str, str], spec: Predictions, application: Application
) -> str | None:
    if application.task != "extract":
        text = _text(row[wanted[ANSWER]])
        return None if not text else spec.labels.get(text, text)
    values: Any = {name: row[column] for name, column in wanted.items()}
    if spec.answer is not None:
        values = row[spec.answer]
        if isinstance(values, str):
            return _renamed(values, spec, application)
        values = {str(name): value for name, value in values.items()} if isinstance(values, dict) else None
        values = {spec.fields.get(name, name): value for name, value in values.items()} if values else None
    if not values or all(value in (None, "") for value in values.values()):
        return None
    return _fields(values, application)


def _renamed(text: str, spec: Predictions, application: Application) -> str:
    """JSON text with its keys renamed; as it stands where it is no object, so that it is judged as what it is."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(values, dict):
        return text
    renamed: dict[str, Any] = {spec.fields.get(str(name), str(name)): value for name, value in values.items()}
    return _fields(renamed, application)


def _fields(values: Mapping[str, Any], application: Application) -> str:
    """The fields that the application asks for; what another system says besides is no answer to it."""
    return canonical_json(
        {name: _value(value, name, application) for name, value in values.items() if name in application.fields}
    )


def _value(value: Any, name: str, application: Application) -> Any:
    """A value as its field's type where a file could only write text; as it stands where it is none."""
    known = application.fields.get(name)
    if isinstance(value, str) and not value.strip():
        return None
    if not isinstance(value, str) or known is None or known.type not in READ_AS_TEXT:
        return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)
    try:
        return field_value(value, name, known)
    except ContractBroken:
        return value


def _probability(row: Mapping[str, Any], column: str | None, url: str) -> float | None:
    value = None if column is None else row[column]
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ContractBroken(
            f"Column {column!r} of {url!r} has a confidence that is no probability in [0, 1]. Leave it out, or rescale "
            "it."
        )
    return number


def _completion(
    given: tuple[str | None, float | None],
    release: Release,
    reader: AnswerReader,
    *,
    key: str,
    fingerprint: str,
    now: datetime,
) -> Completion:
    raw, confidence = given
    answer, reason = reader.accepted(raw) if raw is not None else (None, NOT_RECORDED)
    if answer is None and raw is not None and release.task == "classify":
        reason = NO_LABEL
    return Completion(
        release_id=release.release_id,
        request_id=release.request_id,
        fingerprint=fingerprint,
        document_id=key,
        status=CompletionStatus.INVALID if answer is None else CompletionStatus.VALID,
        answer=answer,
        confidence=confidence if answer is not None else None,
        raw="" if answer is not None else raw or "",
        reason=reason,
        attempts=0,
        created_at=now,
    )


def _text(value: Any) -> str | None:
    """A value as the text that names it, in the form that keys and labels have; None where there is none."""
    text = text_of(value)
    return None if text is None else one_form(text)
