"""Known answers: read as they are written, checked against the task, and split once and for all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import pandas as pd
import pyarrow as pa

from llm_platform.application.model import Application, OutputField, References
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import Split, canonical_json
from llm_platform.records.tables import REFERENCES_SCHEMA

SHOWN, MANY_SPLITS = 5, 20
"""Values of a split that an error names, and how many there are where it is no split at all."""


class KnownAnswers(NamedTuple):
    """References as stored, and how many approved verdicts are not among them.

    Attributes:
        rows: Columns of `REFERENCES_SCHEMA`.
        held_back: Verdicts whose document the seed put into the evaluation split, although it was chosen for its
            answers (a disagreement, a low confidence): it would make the evaluation harder than the documents are.
        impossible: Verdicts whose answer is not a label any more.
    """

    rows: pa.Table
    held_back: int
    impossible: int


def references_table(rows: pa.Table, documents: pa.Table, application: Application) -> pa.Table:
    """References of the table: document_id, answer (a label, canonical JSON or text), split, provenance `table`.

    With no `split` column the split is drawn from a hash of the seed and the document's fingerprint: documents with
    equal text share a split, and a new reference never moves an old one.

    Args:
        rows: The table as its owner wrote it.
        documents: Columns document_id and fingerprint.
        application: Names the columns, and what an answer may be.

    Raises:
        ContractBroken: a key is missing or occurs twice, an answer is not possible, or a split is not known.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(f"{application.name} has no 'references' in application.yaml.")
    frame = rows.to_pandas()
    _require_columns(frame, spec, application)
    if spec.split:
        frame = frame.assign(**{spec.split: _splits(frame, spec, application)})
        frame = frame.loc[frame[spec.split] != "unused"].reset_index(drop=True)
    keys = frame[spec.key].astype("string")
    if keys.isna().any() or keys.duplicated().any():
        first = keys[keys.duplicated()].iloc[0] if keys.duplicated().any() else None
        raise ContractBroken(
            f"References of {application.name} in {spec.address!r}: {int(keys.isna().sum())} rows have no "
            f"{spec.key!r} and {int(keys.duplicated().sum())} repeat one (first: {first!r}). Nothing was written."
        )
    answers = _answers(frame, spec, application)
    _require_labels(answers, keys, application)
    known = dict(zip(documents["document_id"].to_pylist(), documents["fingerprint"].to_pylist(), strict=True))
    if spec.split:
        splits = frame[spec.split]
    else:
        drawn = [drawn_split(known.get(key, key), seed=spec.seed, train_share=spec.train_share) for key in keys]
        splits = pd.Series(drawn, dtype="string")
    columns = [keys.to_list(), answers.to_list(), splits.to_list(), ["table"] * len(keys)]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=REFERENCES_SCHEMA)


def with_verdicts(known: pa.Table, approved: pa.Table, documents: pa.Table, application: Application) -> KnownAnswers:
    """References of the table together with verdicts that hold.

    The table's answer wins unless an adjudicator decided. A document that the table does not have gets the split of
    its text if the text has one, else the one that the seed draws for it, as any other; into the evaluation split it
    comes only if it was met in random order, so that what is evaluated stays a sample of the documents.

    Args:
        known: What `references_table` returned.
        approved: Columns document_id, fingerprint, answer, basis, sampled; one row per document.
        documents: Columns document_id and fingerprint.
        application: Its `references` hold the seed; its labels say which answers are possible.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(f"{application.name} has no 'references' in application.yaml.")
    rows = {row["document_id"]: row for row in known.to_pylist()}
    fingerprints = dict(zip(documents["document_id"].to_pylist(), documents["fingerprint"].to_pylist(), strict=True))
    splits = {fingerprints[key]: row["split"] for key, row in rows.items() if key in fingerprints}
    held_back = impossible = 0
    for verdict in approved.to_pylist():
        key, basis = verdict["document_id"], verdict["basis"]
        if application.task == "classify" and verdict["answer"] not in application.labels:
            impossible += 1
            continue
        if key in rows:
            if basis == "adjudicated" and rows[key]["answer"] != verdict["answer"]:
                rows[key] = {**rows[key], "answer": verdict["answer"], "provenance": basis}
            continue
        drawn = drawn_split(verdict["fingerprint"], seed=spec.seed, train_share=spec.train_share)
        split = splits.get(verdict["fingerprint"], drawn)
        if split == "evaluation" and not verdict["sampled"]:
            held_back += 1
            continue
        rows[key] = {"document_id": key, "answer": verdict["answer"], "split": split, "provenance": basis}
    return KnownAnswers(pa.Table.from_pylist(list(rows.values()), schema=REFERENCES_SCHEMA), held_back, impossible)


def drawn_split(identity: str, *, seed: int, train_share: float) -> str:
    """`train` or `evaluation`, the same for the same identity and seed for ever."""
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    return "train" if int.from_bytes(digest[:8]) / 2**64 < train_share else "evaluation"


def _require_columns(frame: pd.DataFrame, spec: References, application: Application) -> None:
    missing = [name for name in application.reference_columns() if name not in frame.columns]
    if missing:
        raise ContractBroken(
            f"References of {application.name} in {spec.address!r} have no column {', '.join(map(repr, missing))}; "
            f"there are {', '.join(map(repr, frame.columns))}."
        )


def _answers(frame: pd.DataFrame, spec: References, application: Application) -> pd.Series[Any]:
    if spec.answer and application.task == "extract":
        read = [_fields_json(value, spec.fields) for value in frame[spec.answer]]
        return pd.Series(read, dtype="string", index=frame.index)
    if spec.answer:
        answers = frame[spec.answer].astype("string")
        return answers.map(lambda value: spec.labels.get(value, value)).astype("string") if spec.labels else answers
    column_of = {field: column for column, field in spec.fields.items()}
    columns = [column_of.get(name, name) for name in application.fields]
    records = frame[columns].set_axis(list(application.fields), axis=1)
    records = records.astype(object).where(records.notna(), None)
    return pd.Series([canonical_json(row) for row in records.to_dict("records")], dtype="string", index=frame.index)


def _fields_json(value: Any, renamed: Mapping[str, str]) -> str | None:
    """Canonical JSON of an answer given as an object (a struct column) or as JSON text; None if it is neither."""
    try:
        fields = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    known = str | int | float | None
    return canonical_json(
        {renamed.get(name, name): item if isinstance(item, known) else str(item) for name, item in fields.items()}
    )


def _require_labels(answers: pd.Series[Any], keys: pd.Series[Any], application: Application) -> None:
    wrong = ~answers.isin(application.labels) if application.task == "classify" else answers.isna()
    if wrong.any():
        is_label = application.task == "classify"
        allowed = f"; labels are {', '.join(application.labels)}" if is_label else ""
        mapped = ", or say in references.labels which label each of its values is" if is_label else ""
        raise ContractBroken(
            f"{int(wrong.sum())} of {len(answers)} references of {application.name} are not possible answers "
            f"(first: document {keys[wrong].iloc[0]!r}){allowed}. Correct the reference table{mapped}."
        )
    for name, field in application.fields.items():
        _require_values(answers, keys, name=name, field=field, application=application)


def _require_values(
    answers: pd.Series[Any], keys: pd.Series[Any], *, name: str, field: OutputField, application: Application
) -> None:
    """The known values of a field with a closed set are of that set."""
    if field.type != "enum":
        return
    given = answers.map(lambda answer: json.loads(answer).get(name))
    wrong = given.notna() & (given != "") & ~given.isin(field.values)
    if wrong.any():
        raise ContractBroken(
            f"{int(wrong.sum())} of {len(answers)} references of {application.name} have a {name!r} that is none of "
            f"its values (first: document {keys[wrong].iloc[0]!r}); values are {', '.join(field.values)}. Correct the "
            "reference table, or add the value in application.yaml."
        )


def _splits(frame: pd.DataFrame, spec: References, application: Application) -> pd.Series[Any]:
    """Our split of each row; `unused` for one that is to be left out."""
    given = frame[spec.split].astype("string")
    splits = given.map(lambda value: spec.splits.get(value, value)).astype("string") if spec.splits else given
    wrong = ~splits.isin([*get_args(Split), *(["unused"] if spec.splits else [])])
    if wrong.any():
        counts = given[wrong].fillna("nothing").value_counts()
        shown = ", ".join(f"{name!r} ({count})" for name, count in list(counts.items())[:SHOWN])
        if len(counts) > MANY_SPLITS:
            # A column of texts that was taken for one of splits: texts do not appear in messages.
            shown = f"{len(counts)} different values, so it may be another column"
        raise ContractBroken(
            f"{int(wrong.sum())} references of {application.name} have a {spec.split!r} that is neither 'train' nor "
            f"'evaluation': {shown}. Say in references.splits what each of them is, such as {{test: evaluation, "
            "val: train}, or `unused`; or leave 'split' out, and it is drawn by seed."
        )
    return splits
