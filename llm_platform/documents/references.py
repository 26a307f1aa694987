"""Known answers: read as they are written, checked against the task, and split once and for all."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from llm_platform.application.model import Application, References
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import canonical_json

REFERENCES_SCHEMA = pa.schema(
    [("document_id", pa.string()), ("answer", pa.string()), ("split", pa.string()), ("provenance", pa.string())]
)


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
        splits = frame[spec.split].astype("string")
        _require_splits(splits, spec, application)
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
    answers = [spec.answer] if spec.answer else list(application.fields)
    wanted = [spec.key, *answers, *([spec.split] if spec.split else [])]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ContractBroken(
            f"References of {application.name} in {spec.address!r} have no column {', '.join(map(repr, missing))}; "
            f"there are {', '.join(map(repr, frame.columns))}."
        )


def _answers(frame: pd.DataFrame, spec: References, application: Application) -> pd.Series[Any]:
    if spec.answer and application.task == "extract":
        return pd.Series([_fields_json(value) for value in frame[spec.answer]], dtype="string", index=frame.index)
    if spec.answer:
        return frame[spec.answer].astype("string")
    records = frame[list(application.fields)].astype(object).where(frame[list(application.fields)].notna(), None)
    return pd.Series([canonical_json(row) for row in records.to_dict("records")], dtype="string", index=frame.index)


def _fields_json(value: Any) -> str | None:
    """Canonical JSON of an answer given as an object (a struct column) or as JSON text; None if it is neither."""
    try:
        fields = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    known = str | int | float | None
    return canonical_json({name: item if isinstance(item, known) else str(item) for name, item in fields.items()})


def _require_labels(answers: pd.Series[Any], keys: pd.Series[Any], application: Application) -> None:
    wrong = ~answers.isin(application.labels) if application.task == "classify" else answers.isna()
    if wrong.any():
        allowed = f"; labels are {', '.join(application.labels)}" if application.task == "classify" else ""
        raise ContractBroken(
            f"{int(wrong.sum())} of {len(answers)} references of {application.name} are not possible answers "
            f"(first: document {keys[wrong].iloc[0]!r}){allowed}. Correct the reference table."
        )


def _require_splits(splits: pd.Series[Any], spec: References, application: Application) -> None:
    wrong = ~splits.isin(["train", "evaluation"])
    if wrong.any():
        raise ContractBroken(
            f"{int(wrong.sum())} references of {application.name} have a {spec.split!r} that is neither 'train' nor "
            "'evaluation'. Correct the column, or leave it out and the split is drawn by seed."
        )
