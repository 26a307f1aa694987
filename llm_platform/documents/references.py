"""Known answers: read as they are written, checked against the task, and split once and for all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.application.references import References
from llm_platform.documents.prepare import require_possible
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import Split, canonical_json
from llm_platform.records.tables import REFERENCES_SCHEMA
from llm_platform.tables.columns import objects, texts
from llm_platform.tables.forms import alike, one_form, stored

SHOWN_KEYS = 3
SHOWN, MANY_SPLITS = 5, 20
"""Values of a split that an error names, and how many there are where it is no split at all."""


@dataclass(frozen=True)
class KnownAnswers:
    """References as stored, and what is not among them.

    Attributes:
        rows: Columns of `REFERENCES_SCHEMA`.
        unlabelled: Rows of the table that have no answer.
        unmatched: Known answers whose document is not stored; they are kept, in case it comes.
        unmatched_keys: The first of their keys.
        nearly: How many of those differ from a document's key in case or white space only.
        held_back: Verdicts whose document the seed put into the evaluation split, although it was chosen for its
            answers (a disagreement, a low confidence): it would make the evaluation harder than the documents are.
        impossible: Verdicts whose answer is not a label any more.
    """

    rows: pa.Table
    unlabelled: int = 0
    unmatched: int = 0
    unmatched_keys: tuple[str, ...] = ()
    nearly: int = 0
    held_back: int = 0
    impossible: int = 0

    @property
    def unmatched_note(self) -> str:
        """What is to be said of known answers without a document; empty where all have one."""
        if not self.unmatched:
            return ""
        nearly = f"; {self.nearly} differ from a key in case or white space only" if self.nearly else ""
        return (
            f"{self.unmatched} of {self.rows.num_rows} known answers name no document "
            f"(first: {', '.join(map(repr, self.unmatched_keys))}{nearly})"
        )


def matched(
    rows: pa.Table, documents: Iterable[str], *, others: Callable[[], Iterable[str]] | None = None
) -> KnownAnswers:
    """Known answers, and which of them name no document.

    Args:
        rows: Columns of `REFERENCES_SCHEMA`.
        documents: Keys of the documents that they name, or of all.
        others: Gives keys that they may have been meant to be; asked for only where one names no document.
    """
    there = set(documents)
    without = [key for key in rows["document_id"].to_pylist() if key not in there]
    like = {alike(key) for key in (there if others is None else others())} if without else set()
    return KnownAnswers(
        rows,
        unmatched=len(without),
        unmatched_keys=tuple(without[:SHOWN_KEYS]),
        nearly=sum(alike(key) in like for key in without),
    )


def references_table(rows: pa.Table, documents: pa.Table, application: Application) -> tuple[pa.Table, int]:
    """References of the table: document_id, answer (a label, canonical JSON or text), split, provenance `table`.

    With them, how many rows have no answer.

    A row without an answer (null, or an empty text) is no reference, nor is one of a split that is not used. With no
    `split` column the split is drawn from a hash of the seed and the document's fingerprint: documents with equal text
    share a split, and a new reference never moves an old one.

    Args:
        rows: The table as its owner wrote it, with the types that its columns declare.
        documents: Columns document_id and fingerprint.
        application: Names the columns, and what an answer may be.

    Raises:
        SpecificationError: the application has no `references`.
        ContractBroken: a key is missing, impossible or occurs twice, or an answer or a split is not possible.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(f"{application.name} has no 'references' in application.yaml.")
    _require_columns(rows, spec, application)
    answers = _answers(rows, spec, application)
    labelled = [number for number, answer in enumerate(answers) if answer is not UNLABELLED]
    used, unlabelled = rows.take(pa.array(labelled, pa.int64())), len(answers) - len(labelled)
    answers = [answers[number] for number in labelled]
    splits = _splits(texts(used[spec.split]), spec, application) if spec.split else [None] * len(answers)
    keys = texts(used[spec.key])
    taken = [row for row in zip(keys, answers, splits, strict=True) if row[2] != UNUSED]
    _require_keys([key for key, _, _ in taken], spec, application)
    _require_answers([(str(key), answer) for key, answer, _ in taken], application)
    known = dict(zip(documents["document_id"].to_pylist(), documents["fingerprint"].to_pylist(), strict=True))
    made = [
        (
            key,
            answer,
            split or drawn_split(known.get(key, str(key)), seed=spec.seed, train_share=spec.train_share),
            "table",
        )
        for key, answer, split in taken
    ]
    columns = list(zip(*made, strict=True)) or [()] * len(REFERENCES_SCHEMA)
    table = pa.table([pa.array(column, pa.string()) for column in columns], schema=REFERENCES_SCHEMA)
    return table, unlabelled


def known_answers_of(
    rows: pa.Table,
    approved: pa.Table,
    documents: pa.Table,
    application: Application,
    *,
    others: Callable[[], Iterable[str]] | None = None,
) -> KnownAnswers:
    """References of a table and of verdicts, and what is to be said of both.

    Args:
        rows: As `references_table` takes it.
        approved: As `with_verdicts` takes it.
        documents: Columns document_id and fingerprint, of the documents that either names.
        application: The application.
        others: As `matched` takes it.
    """
    known, unlabelled = references_table(rows, documents, application)
    together = with_verdicts(known, approved, documents, application)
    return replace(
        matched(together.rows, documents["document_id"].to_pylist(), others=others),
        unlabelled=unlabelled,
        held_back=together.held_back,
        impossible=together.impossible,
    )


def with_verdicts(known: pa.Table, approved: pa.Table, documents: pa.Table, application: Application) -> KnownAnswers:
    """References of the table together with verdicts that hold.

    The table's answer wins unless an adjudicator decided. A document that the table does not have gets the split of
    its text if the text has one, else the one that the seed draws for it, as any other; into the evaluation split it
    comes only if it was met in random order, so that what is evaluated stays a sample of the documents.

    Args:
        known: References as `references_table` returns them.
        approved: Columns document_id, fingerprint, answer, basis, sampled; one row per document.
        documents: Columns document_id and fingerprint.
        application: Its `references` hold the seed; its labels say which answers are possible.

    Raises:
        SpecificationError: the application has no `references`.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(f"{application.name} has no 'references' in application.yaml.")
    rows = {row["document_id"]: row for row in known.to_pylist()}
    fingerprints = dict(zip(documents["document_id"].to_pylist(), documents["fingerprint"].to_pylist(), strict=True))
    splits = {fingerprints[key]: row["split"] for key, row in rows.items() if key in fingerprints}
    held_back = impossible = 0
    for verdict in approved.to_pylist():
        key, basis, answer = verdict["document_id"], verdict["basis"], stored(one_form(verdict["answer"]))
        if application.task == "classify" and answer not in application.labels:
            impossible += 1
            continue
        if key in rows:
            if basis == "adjudicated" and rows[key]["answer"] != answer:
                rows[key] = {**rows[key], "answer": answer, "provenance": basis}
            continue
        drawn = drawn_split(verdict["fingerprint"], seed=spec.seed, train_share=spec.train_share)
        split = splits.get(verdict["fingerprint"], drawn)
        if split == "evaluation" and not verdict["sampled"]:
            held_back += 1
            continue
        rows[key] = {"document_id": key, "answer": answer, "split": split, "provenance": basis}
    together = pa.Table.from_pylist(list(rows.values()), schema=REFERENCES_SCHEMA)
    return KnownAnswers(together, held_back=held_back, impossible=impossible)


def drawn_split(identity: str, *, seed: int, train_share: float) -> str:
    """`train` or `evaluation`, the same for the same identity and seed for ever."""
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    return "train" if int.from_bytes(digest[:8]) / 2**64 < train_share else "evaluation"


UNLABELLED = object()
"""Stands for the answer of a row that has none, which is another thing than one that cannot be read."""
UNUSED = "unused"


def _require_columns(rows: pa.Table, spec: References, application: Application) -> None:
    missing = [name for name in application.reference_columns() if name not in rows.column_names]
    if missing:
        raise ContractBroken(
            f"References of {application.name} in {spec.address!r} have no column {', '.join(map(repr, missing))}; "
            f"there are {', '.join(map(repr, rows.column_names))}."
        )


def _require_keys(keys: Sequence[str | None], spec: References, application: Application) -> None:
    of = f"references of {application.name} in {spec.address!r}"
    require_possible([key for key in keys if key is not None], of)
    missing = sum(not key for key in keys)
    repeated = [key for key, times in Counter(key for key in keys if key).items() if times > 1]
    if missing or repeated:
        first = repeated[0] if repeated else None
        raise ContractBroken(
            f"{of[0].upper()}{of[1:]}: {missing} rows have no {spec.key!r} and {len(repeated)} keys occur more than "
            f"once (first: {first!r}). Nothing was written."
        )


def _answers(rows: pa.Table, spec: References, application: Application) -> list[Any]:
    """One answer a row: text, `UNLABELLED`, or None where there is one that cannot be read."""
    if spec.answer and application.task == "extract":
        return [_fields_json(value, spec.fields) for value in objects(rows[spec.answer])]
    if spec.answer:
        labels = {one_form(value): label for value, label in spec.labels.items()}
        # What the table calls "no label" may be named in the mapping; else it is none.
        return [labels.get(text or "", stored(text) if text else UNLABELLED) for text in texts(rows[spec.answer])]
    column_of = {field: column for column, field in spec.fields.items()}
    columns = {name: objects(rows[column_of.get(name, name)]) for name in application.fields}
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    empty = (None, "")
    return [canonical_json(row) if any(value not in empty for value in row.values()) else UNLABELLED for row in records]


def _fields_json(value: Any, renamed: Mapping[str, str]) -> Any:
    """Canonical JSON of an answer given as an object (a struct column) or as JSON text; None if it is neither."""
    if value is None or value == "":
        return UNLABELLED
    try:
        fields = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    if fields is None:
        return UNLABELLED
    if not isinstance(fields, dict):
        return None
    known = str | int | float | None
    return canonical_json(
        {renamed.get(name, name): item if isinstance(item, known) else str(item) for name, item in fields.items()}
    )


def _require_answers(answers: Sequence[tuple[str, Any]], application: Application) -> None:
    classify = application.task == "classify"
    wrong = [key for key, answer in answers if (answer not in application.labels if classify else answer is None)]
    if wrong:
        allowed = f"; labels are {', '.join(application.labels)}" if classify else ""
        mapped = ", or say in references.labels which label each of its values is" if classify else ""
        raise ContractBroken(
            f"{len(wrong)} of {len(answers)} references of {application.name} are not possible answers "
            f"(first: document {wrong[0]!r}){allowed}. Correct the reference table{mapped}."
        )
    for name, field in application.fields.items():
        _require_values(answers, name=name, field=field, application=application)


def _require_values(
    answers: Sequence[tuple[str, Any]], *, name: str, field: OutputField, application: Application
) -> None:
    """The known values of a field with a closed set are of that set."""
    if field.type != "enum":
        return
    given = [(key, json.loads(answer).get(name)) for key, answer in answers]
    wrong = [key for key, value in given if value not in (None, "", *field.values)]
    if wrong:
        raise ContractBroken(
            f"{len(wrong)} of {len(answers)} references of {application.name} have a {name!r} that is none of "
            f"its values (first: document {wrong[0]!r}); values are {', '.join(field.values)}. Correct the "
            "reference table, or add the value in application.yaml."
        )


def _splits(given: Sequence[str | None], spec: References, application: Application) -> list[str | None]:
    """Our split of each row; `unused` for one that is to be left out."""
    splits = [spec.splits.get(value, value) if value is not None else None for value in given]
    possible = {*get_args(Split), *([UNUSED] if spec.splits else [])}
    wrong = Counter(
        value if value is not None else "nothing"
        for value, split in zip(given, splits, strict=True)
        if split not in possible
    )
    if wrong:
        shown = ", ".join(f"{name!r} ({count})" for name, count in wrong.most_common(SHOWN))
        if len(wrong) > MANY_SPLITS:
            # A column of texts that was taken for one of splits: texts do not appear in messages.
            shown = f"{len(wrong)} different values, so it may be another column"
        raise ContractBroken(
            f"{wrong.total()} references of {application.name} have a {spec.split!r} that is neither 'train' nor "
            f"'evaluation': {shown}. Say in references.splits what each of them is, such as {{test: evaluation, "
            "val: train}, or `unused`; or leave 'split' out, and it is drawn by seed."
        )
    return splits
