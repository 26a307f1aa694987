"""Scorers: plain functions from an answer and a reference to a score in [0, 1], or None with a reason.

A scorer is wrong about nothing it cannot read: a reference that makes no sense is ungraded, never 0.0. An answer that
makes no sense is the opposite case, and is wrong: that is what a reader would have got.

`evaluation.scorers` in `application.yaml` names them; the first one is what gates, comparisons and slices use, the
others are metrics beside it. A `judge:NAME` grades nothing here: whoever asked the judge hands in its `Verdicts`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_platform.application.evaluation import JUDGE, scorer_parts
from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.evaluation.fields import Grade, grade_fields
from llm_platform.evaluation.matches import exact, pattern_scorer, same_items, schema_scorer
from llm_platform.evaluation.own_code import called, code_version, load_function
from llm_platform.evaluation.selection import checked_references, require_columns, require_unique, text_or_none
from llm_platform.evaluation.text_scores import rouge_l, token_f1
from llm_platform.records import CompletionStatus, DocumentStatus, Score, content_hash

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Scorer", "Verdicts", "exact", "score_answers", "scorer_of", "scorers_of"]

NO_COMPLETION = "no completion"
NO_REFERENCE = "the reference is empty"
DEFAULTS = {"classify": "exact", "extract": "fields", "generate": "normalized"}
OWN_ARGUMENTS = ("answer", "reference")

GradeFunction = Callable[[str | None, str], Grade]


class Scorer(NamedTuple):
    """A scorer and the name its scores carry; the number in it is raised when equal input would get another score.

    Attributes:
        label: As `application.yaml` names it.
        grade: None for a judge, whose verdicts are handed in.
    """

    name: str
    grade: GradeFunction | None
    label: str


@dataclass(frozen=True)
class Verdicts:
    """What a judge said of one release's answers.

    Attributes:
        version: Of all that decides a verdict: the judge's release id.
        grades: (document id, fingerprint) → grade; an answer that is missing here has not been judged yet.
    """

    version: str
    grades: Mapping[tuple[str, str], Grade] = field(default_factory=dict)


def scorers_of(application: Application, judges: Mapping[str, str] | None = None) -> tuple[Scorer, ...]:
    """The scorers of an application, the one that decides first.

    Args:
        application: Without `evaluation.scorers`, its task decides: exact labels, field by field for `extract`,
            normalized text for `generate`.
        judges: Judge → version of its verdicts, where they are known.

    Raises:
        SpecificationError: a scorer names a function, a file or a package that is not there.
    """
    named = application.evaluation.scorers or (DEFAULTS[application.task],)
    return tuple(_scorer(text, application, judges or {}) for text in named)


def scorer_of(application: Application, judges: Mapping[str, str] | None = None) -> Scorer:
    """The scorer that decides."""
    return scorers_of(application, judges)[0]


def score_answers(
    answers: pd.DataFrame,
    references: pd.DataFrame,
    *,
    application: Application,
    release_id: str,
    references_version: str,
    verdicts: Mapping[str, Verdicts] | None = None,
) -> list[Score]:
    """One score per scorer and document that has a reference, in order of scorer and document id, of both splits.

    An invalid, truncated or rejected completion is a wrong answer, 0.0 with its reason: the reader gets nothing, and
    a variant must not look better for failing where it would have been wrong. A document without a completion is
    ungraded, and so is one whose reference cannot be read. A valid answer that a judge has not judged yet has no score
    by that judge.

    Args:
        answers: One row per document: `document_id`, `fingerprint`, `status` (null without a completion), `answer`,
            and, where documents exist that are not sent, `document_status`.
        references: `document_id`, `answer` (a label, or the JSON text of the fields), `split`.
        application: Names the scorers, the task, labels and fields.
        release_id: Of the release that gave the answers.
        references_version: Of the references.
        verdicts: Judge → what it said of these answers.

    Raises:
        ContractBroken: a table lacks a column or repeats a document, or a team's own scorer returns no score.
        SpecificationError: a scorer cannot be loaded.
    """
    require_columns(answers, ("document_id", "fingerprint", "status", "answer"), table="answers")
    require_unique(answers, table="answers")
    known = checked_references(references).rename(columns={"answer": "reference"})[["document_id", "reference"]]
    rows = answers.drop(columns="reference", errors="ignore")
    rows = rows.merge(known, on="document_id", how="inner").sort_values("document_id")
    given = verdicts or {}
    scores: list[Score] = []
    for scorer in scorers_of(application, {judge: found.version for judge, found in given.items()}):
        judge = scorer.label.partition(":")[2] if scorer.grade is None else None
        for case in _cases(rows):
            grade = _grade(scorer, case) if judge is None else _judged(given.get(judge), case)
            if grade is not None:
                scores.append(
                    Score(
                        release_id=release_id,
                        fingerprint=case.fingerprint,
                        document_id=case.document_id,
                        scorer=scorer.name,
                        score=grade.score,
                        reason=grade.reason,
                        said=grade.said,
                        references_version=references_version,
                    )
                )
    return scores


class _Case(NamedTuple):
    """One document to grade."""

    document_id: str
    fingerprint: str
    status: str | None
    answer: str | None
    reference: str | None
    document_status: str | None


def _cases(rows: pd.DataFrame) -> Sequence[_Case]:
    unsent = rows["document_status"].tolist() if "document_status" in rows.columns else [None] * len(rows)
    columns = (rows[name].tolist() for name in ("document_id", "fingerprint", "status", "answer", "reference"))
    return [_Case(row[0], row[1], *map(text_or_none, row[2:])) for row in zip(*columns, unsent, strict=True)]


def _grade(scorer: Scorer, case: _Case) -> Grade:
    if (ungraded := _ungraded(case)) is not None:
        return ungraded
    reference = case.reference or ""
    if case.status == str(CompletionStatus.VALID):
        return _checked(scorer, case, case.answer, reference)
    grade = _checked(scorer, case, None, reference)
    return grade if grade.score is None else Grade(0.0, f"no valid answer: {case.status}")


def _judged(verdicts: Verdicts | None, case: _Case) -> Grade | None:
    """A judge's grade; None for a valid answer that it has not judged yet."""
    if (ungraded := _ungraded(case)) is not None:
        return ungraded
    if case.status != str(CompletionStatus.VALID):
        return Grade(0.0, f"no valid answer: {case.status}")
    return verdicts.grades.get((case.document_id, case.fingerprint)) if verdicts is not None else None


def _ungraded(case: _Case) -> Grade | None:
    if case.document_status not in (None, str(DocumentStatus.SENDABLE)):
        return Grade(None, f"the document was not sent: {case.document_status}")
    if case.reference is None or not case.reference.strip():
        return Grade(None, NO_REFERENCE)
    return Grade(None, NO_COMPLETION) if case.status is None else None


def _checked(scorer: Scorer, case: _Case, answer: str | None, reference: str) -> Grade:
    """A grade that keeps the contract; a scorer of ours always does."""
    assert scorer.grade is not None
    try:
        grade = scorer.grade(answer, reference)
    except ContractBroken as error:
        raise ContractBroken(f"{error} The document is {case.document_id!r}.") from None
    if grade.score is None and grade.reason:
        return grade
    if grade.score is not None and 0.0 <= grade.score <= 1.0:
        return grade
    found = "no score and no reason" if grade.score is None else f"the score {grade.score!r}"
    raise ContractBroken(
        f"Scorer {scorer.label!r} gave document {case.document_id!r} {found}. Return a number in [0, 1], or "
        "(None, reason) where nothing can be said."
    )


def _scorer(text: str, application: Application, judges: Mapping[str, str]) -> Scorer:
    kind, argument = scorer_parts(text)
    if kind == JUDGE:
        return Scorer(f"{text}/{judges.get(argument or '', 'unknown')}", None, text)
    if kind == "own":
        function = load_function(text, application.folder, arguments=OWN_ARGUMENTS)
        return Scorer(f"{text}/{code_version(function)}", _own(function, text), text)
    if kind == "semantic":
        from llm_platform.evaluation.embedding import embedding_version, semantic

        return Scorer(f"semantic/1 {embedding_version()}", semantic, text)
    if kind == "regex":
        return Scorer(f"{text}/1", pattern_scorer(argument), text)
    if kind == "json_schema":
        schema = _schema(text, argument, application)
        return Scorer(f"{text}/{content_hash(schema)}", schema_scorer(schema), text)
    return Scorer(f"{kind}/1", _plain(kind, application), text)


def _plain(kind: str, application: Application) -> GradeFunction:
    labels, fields = frozenset(application.labels), application.fields
    plain: dict[str, GradeFunction] = {
        "exact": lambda answer, reference: exact(answer, reference, labels=labels),
        "normalized": lambda answer, reference: exact(answer, reference, normalize=True),
        "set": same_items,
        "fields": lambda answer, reference: Grade(*grade_fields(answer, reference, fields)[:2]),
        "token_f1": token_f1,
        "rouge_l": rouge_l,
    }
    return plain[kind]


def _schema(text: str, argument: str | None, application: Application) -> dict[str, Any]:
    if argument is None:
        schema = application.output_schema()
        if schema is None:
            raise SpecificationError(f"Scorer {text!r}: task {application.task!r} has no fields; name a schema file.")
        return schema
    path = application.folder / Path(argument)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecificationError(f"Scorer {text!r}: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SpecificationError(f"Scorer {text!r}: {path} is not JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise SpecificationError(f"Scorer {text!r}: {path} holds no JSON object.")
    return schema


def _own(function: Callable[..., Any], text: str) -> GradeFunction:
    """A team's function as a scorer: it may return a number, a truth value, None, or a pair with a reason."""

    def grade(answer: str | None, reference: str) -> Grade:
        returned = called("Scorer", text, function, answer, reference)
        value, reason = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        said = None if reason is None else str(reason)
        if value is None:
            return Grade(None, f"{text} gives no score", said)
        if not isinstance(value, (bool, int, float)) or math.isnan(value):
            kind = "nan" if isinstance(value, float) else type(value).__name__
            raise ContractBroken(
                f"Scorer {text!r} returned {kind}: return a number in [0, 1], None, or a pair with a reason."
            )
        return Grade(float(value), said=said)

    return grade
