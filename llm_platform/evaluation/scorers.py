"""Scorers: plain functions from an answer and a reference to a score in [0, 1], or None with a reason.

A scorer is wrong about nothing it cannot read: a reference that makes no sense is ungraded, never 0.0. An answer that
makes no sense is the opposite case, and is wrong: that is what a reader would have got.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from llm_platform.application import Application
from llm_platform.evaluation.fields import Grade, grade_fields, normalized
from llm_platform.evaluation.selection import checked_references, require_columns, require_unique, text_or_none
from llm_platform.records import CompletionStatus, DocumentStatus, Score

if TYPE_CHECKING:
    import pandas as pd

NO_COMPLETION = "no completion"
NO_REFERENCE = "the reference is empty"


class Scorer(NamedTuple):
    """A scorer and the name its scores carry; the number in it is raised when equal input would get another score."""

    name: str
    grade: Callable[[str | None, str], Grade]


def exact(answer: str | None, reference: str, *, labels: Collection[str] = (), normalize: bool = False) -> Grade:
    """1.0 when the answer is the reference, else 0.0.

    Args:
        answer: None when there is no valid answer, which is wrong.
        reference: The right answer.
        labels: If given, a reference that is none of them is ungraded.
        normalize: Ignore case, white space and Unicode forms.
    """
    if labels and reference not in labels:
        return Grade(None, "the reference is not one of the labels")
    if answer is None:
        return Grade(0.0, "no valid answer")
    same = normalized(answer) == normalized(reference) if normalize else answer == reference
    return Grade(1.0 if same else 0.0)


def scorer_of(application: Application) -> Scorer:
    """The scorer of an application's task: exact labels, field-wise for `extract`, normalized text for `generate`."""
    if application.task == "classify":
        labels = frozenset(application.labels)
        return Scorer("exact/1", lambda answer, reference: exact(answer, reference, labels=labels))
    if application.task == "extract":
        fields = application.fields
        return Scorer("fields/1", lambda answer, reference: Grade(*grade_fields(answer, reference, fields)[:2]))
    return Scorer("normalized/1", lambda answer, reference: exact(answer, reference, normalize=True))


def score_answers(
    answers: pd.DataFrame,
    references: pd.DataFrame,
    *,
    application: Application,
    release_id: str,
    references_version: str,
) -> list[Score]:
    """One score per document that has a reference, in order of document id, of both splits.

    An invalid, truncated or rejected completion is a wrong answer, 0.0 with its reason: the reader gets nothing, and
    a variant must not look better for failing where it would have been wrong. A document without a completion is
    ungraded, and so is one whose reference cannot be read.

    Args:
        answers: One row per document: `document_id`, `fingerprint`, `status` (null without a completion), `answer`,
            and, where documents exist that are not sent, `document_status`.
        references: `document_id`, `answer` (a label, or the JSON text of the fields), `split`.
        application: Names the task, labels and fields.
        release_id: Of the release that gave the answers.
        references_version: Of the references.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    require_columns(answers, ("document_id", "fingerprint", "status", "answer"), table="answers")
    require_unique(answers, table="answers")
    known = checked_references(references).rename(columns={"answer": "reference"})[["document_id", "reference"]]
    rows = answers.merge(known, on="document_id", how="inner").sort_values("document_id")
    scorer = scorer_of(application)
    unsent = rows["document_status"].tolist() if "document_status" in rows.columns else [None] * len(rows)
    columns = (rows[name].tolist() for name in ("document_id", "fingerprint", "status", "answer", "reference"))
    scores = []
    for document_id, fingerprint, status, answer, reference, document_status in zip(*columns, unsent, strict=True):
        grade = _grade(
            scorer, text_or_none(status), text_or_none(answer), text_or_none(reference), text_or_none(document_status)
        )
        scores.append(
            Score(
                release_id=release_id,
                fingerprint=fingerprint,
                document_id=document_id,
                scorer=scorer.name,
                score=grade.score,
                reason=grade.reason,
                references_version=references_version,
            )
        )
    return scores


def _grade(
    scorer: Scorer, status: str | None, answer: str | None, reference: str | None, document_status: str | None
) -> Grade:
    if document_status not in (None, str(DocumentStatus.SENDABLE)):
        return Grade(None, f"the document was not sent: {document_status}")
    if reference is None or not reference.strip():
        return Grade(None, NO_REFERENCE)
    if status is None:
        return Grade(None, NO_COMPLETION)
    if status == str(CompletionStatus.VALID):
        return scorer.grade(answer, reference)
    grade = scorer.grade(None, reference)
    return grade if grade.score is None else Grade(0.0, f"no valid answer: {status}")
