"""What the same documents yield without a language model: the number to read every accuracy against.

Trained on the training split, measured on the evaluation split, on the very documents a report evaluates. Both
baselines are deterministic, and their settings are fixed rather than tuned: they are a yardstick.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.counted_words import predicted
from llm_platform.evaluation.fields import Unreadable, grade_fields, read_value
from llm_platform.evaluation.selection import (
    checked_references,
    evaluation_rows,
    require_columns,
    require_unique,
    sendable,
    text_or_none,
)
from llm_platform.evaluation.statistics import mean_score, share
from llm_platform.records import Interval, Record

if TYPE_CHECKING:
    import pandas as pd

TFIDF = "TF-IDF + logistic regression"
FREQUENT = "Most frequent value per field"


class Baseline(Record):
    """A method without a language model, and how well it does; `reason` says why there is no accuracy."""

    name: str
    accuracy: Interval | None
    trained: int
    evaluated: int
    reason: str | None = None


def baseline_of(
    documents: pd.DataFrame, references: pd.DataFrame, *, application: Application, apart: bool = False
) -> Baseline | None:
    """The baseline of an application's task; None for `generate`, which has none that means anything.

    Args:
        documents: `document_id`, `fingerprint`, `text`, and `document_status` where some are not sent.
        references: `document_id`, `answer`, `split`.
        application: Names the task, labels, fields and the confidence of intervals.
        apart: Count words in a process of its own; see `counted_words`.
    """
    confidence = application.evaluation.gates.confidence
    if application.task == "classify":
        return tfidf_baseline(documents, references, labels=application.labels, confidence=confidence, apart=apart)
    if application.task == "extract":
        return frequent_values(documents, references, fields=application.fields, confidence=confidence)
    return None


def tfidf_baseline(
    documents: pd.DataFrame,
    references: pd.DataFrame,
    *,
    labels: tuple[str, ...],
    confidence: float,
    apart: bool = False,
) -> Baseline:
    """Words and word pairs, weighted by TF-IDF, under a logistic regression; `apart` in a process of its own.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    train, held_out = _labelled_parts(documents, references, labels)
    counts = {"trained": len(train), "evaluated": len(held_out)}
    if train["reference"].nunique() < 2:
        return Baseline(name=TFIDF, accuracy=None, reason="the training split has fewer than two labels", **counts)
    if held_out.empty:
        return Baseline(name=TFIDF, accuracy=None, reason="no document to evaluate", **counts)
    right = _tfidf_right(train, held_out, apart=apart)
    accuracy = share(right, held_out["fingerprint"].tolist(), confidence=confidence)
    return Baseline(name=TFIDF, accuracy=accuracy, **counts)


def tfidf_grades(documents: pd.DataFrame, references: pd.DataFrame, *, labels: tuple[str, ...]) -> dict[str, float]:
    """Fingerprint of each held-out text → the share of its documents that counting words has right.

    Empty where the training split has fewer than two labels. Leave training rows out of `references` to train on fewer.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    train, held_out = _labelled_parts(documents, references, labels)
    if train["reference"].nunique() < 2 or held_out.empty:
        return {}
    graded = held_out.assign(right=_tfidf_right(train, held_out)).groupby("fingerprint")["right"].mean()
    return {str(fingerprint): float(value) for fingerprint, value in graded.items()}


def _labelled_parts(
    documents: pd.DataFrame, references: pd.DataFrame, labels: tuple[str, ...]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, held_out = _parts(documents, references)
    return train.loc[train["reference"].isin(labels)], held_out.loc[held_out["reference"].isin(labels)]


def _tfidf_right(train: pd.DataFrame, held_out: pd.DataFrame, *, apart: bool = False) -> list[bool]:
    given = predicted(train["text"].tolist(), train["reference"].tolist(), held_out["text"].tolist(), apart=apart)
    return [answer == truth for answer, truth in zip(given, held_out["reference"].tolist(), strict=True)]


def frequent_values(
    documents: pd.DataFrame, references: pd.DataFrame, *, fields: Mapping[str, OutputField], confidence: float
) -> Baseline:
    """Answer every document with each field's most frequent value in the training split.

    A regular expression per field would be a stronger baseline, and no general one exists; this one shows what
    constant fields give away.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    train, held_out = _parts(documents, references)
    counts = {"trained": len(train), "evaluated": len(held_out)}
    if train.empty:
        return Baseline(name=FREQUENT, accuracy=None, reason="the training split is empty", **counts)
    answer = json.dumps(_frequent(train["reference"].tolist(), fields))
    grades = [grade_fields(answer, reference, fields).score for reference in held_out["reference"].tolist()]
    graded = [
        (score, key) for score, key in zip(grades, held_out["fingerprint"].tolist(), strict=True) if score is not None
    ]
    if not graded:
        return Baseline(name=FREQUENT, accuracy=None, reason="no document to evaluate", **counts)
    accuracy = mean_score([score for score, _ in graded], [key for _, key in graded], confidence=confidence)
    return Baseline(name=FREQUENT, accuracy=accuracy, trained=len(train), evaluated=len(graded))


def _parts(documents: pd.DataFrame, references: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and evaluation documents that can be sent, each with its `reference`; they share no text."""
    require_columns(documents, ("document_id", "fingerprint", "text"), table="documents")
    require_unique(documents, table="documents")
    usable = documents.loc[sendable(documents)]
    known = checked_references(references)
    trained = known.loc[known["split"] == "train", ["document_id", "answer"]].rename(columns={"answer": "reference"})
    train = usable.merge(trained, on="document_id", how="inner").sort_values("document_id", ignore_index=True)
    held_out = evaluation_rows(usable, references)
    if set(train["fingerprint"]) & set(held_out["fingerprint"]):
        raise ContractBroken("The training and evaluation documents of the baseline share a text.")
    return train.loc[_has_text(train)], held_out.loc[_has_text(held_out)]


def _has_text(rows: pd.DataFrame) -> list[bool]:
    return [text_or_none(reference) is not None for reference in rows["reference"].tolist()]


def _frequent(references: list[str], fields: Mapping[str, OutputField]) -> dict[str, object]:
    """The most frequent readable value of each field; of two equally frequent, the first by its JSON text."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in fields}
    for reference in references:
        try:
            values = json.loads(reference)
        except ValueError:
            continue
        for name, field in fields.items() if isinstance(values, dict) else ():
            if not isinstance(read_value(values.get(name), field), Unreadable):
                counts[name][json.dumps(values.get(name), sort_keys=True)] += 1
    return {
        name: json.loads(min(found.items(), key=lambda item: (-item[1], item[0]))[0])
        for name, found in counts.items()
        if found
    }
