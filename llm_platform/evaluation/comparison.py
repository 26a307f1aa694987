"""Two variants on the same documents: which one is right more often, and where they part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.selection import evaluation_rows, require_columns
from llm_platform.evaluation.statistics import mcnemar, paired_difference
from llm_platform.evaluation.wording import counted, interval_text, probability
from llm_platform.records import Interval, Record, Score

if TYPE_CHECKING:
    import pandas as pd

DISAGREEMENTS = 20


@dataclass(frozen=True)
class Candidate:
    """A variant to compare: its report, and the answers and scores that the report was built from."""

    report: Report
    answers: pd.DataFrame
    scores: Sequence[Score]


class Comparison(Record):
    """A paired comparison over distinct texts of the evaluation split; right means a score of 1.

    Attributes:
        difference: Mean score of `b` minus that of `a`, over texts.
        p_value: Of the exact McNemar test that both are right equally often.
        disagreements: Ids of documents that one variant has right and the other wrong, those first where both were
            surest; the two directions take turns.
    """

    a: str
    b: str
    a_release_id: str
    b_release_id: str
    evaluation_id: str
    difference: Interval
    p_value: float
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    disagreements: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        texts = counted(self.difference.count, "text")
        if self.p_value >= 1.0 - self.difference.confidence:
            return f"No difference between {self.a} and {self.b} can be shown on {texts} ({probability(self.p_value)})."
        better, worse = (self.b, self.a) if self.only_b > self.only_a else (self.a, self.b)
        return f"{better} is right more often than {worse} on the same {texts} ({probability(self.p_value)})."

    @property
    def difference_text(self) -> str:
        """`0.24 [0.15, 0.33]`."""
        return interval_text(self.difference)


def compare(a: Candidate, b: Candidate, *, references: pd.DataFrame) -> Comparison:
    """Compare two variants on the documents of the evaluation split that both have a score for.

    Documents that share a text count once, with their mean score.

    Raises:
        ContractBroken: the reports were measured with different yardsticks, or share no evaluated document.
    """
    if a.report.evaluation_id != b.report.evaluation_id:
        raise ContractBroken(
            f"Cannot compare {a.report.variant!r} and {b.report.variant!r}: evaluations {a.report.evaluation_id!r} and "
            f"{b.report.evaluation_id!r} differ. Materialize both reports on the same documents and references."
        )
    rows = evaluation_rows(a.answers, references)
    keys = list(zip(rows["document_id"].tolist(), rows["fingerprint"].tolist(), strict=True))
    graded_a, graded_b = _graded(a.scores), _graded(b.scores)
    shared = [key for key in keys if key in graded_a and key in graded_b]
    texts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key in shared:
        texts[key[1]].append((graded_a[key], graded_b[key]))
    means = [(sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs)) for pairs in texts.values()]
    rights = [(x == 1.0, y == 1.0) for x, y in means]
    confidence = a.report.accuracy.confidence if a.report.accuracy is not None else 0.95
    difference = paired_difference([y - x for x, y in means], confidence=confidence)
    only_a, only_b = rights.count((True, False)), rights.count((False, True))
    return Comparison(
        a=a.report.variant,
        b=b.report.variant,
        a_release_id=a.report.release_id,
        b_release_id=b.report.release_id,
        evaluation_id=a.report.evaluation_id,
        difference=difference,
        p_value=mcnemar(only_a, only_b),
        both_right=rights.count((True, True)),
        only_a=only_a,
        only_b=only_b,
        both_wrong=rights.count((False, False)),
        disagreements=_disagreements(shared, graded_a, graded_b, sureness=_sureness(a.answers, b.answers)),
    )


Key = tuple[str, str]


def _graded(scores: Sequence[Score]) -> dict[Key, float]:
    return {(score.document_id, score.fingerprint): score.score for score in scores if score.score is not None}


def _sureness(*tables: pd.DataFrame) -> dict[str, float]:
    """Product of the variants' confidences by document; where one states none, 0."""
    sureness: dict[str, float] = {}
    for table in tables:
        require_columns(table, ("document_id", "confidence"), table="answers")
        stated = table["confidence"].astype("float64").fillna(0.0).tolist()
        for document_id, confidence in zip(table["document_id"].tolist(), stated, strict=True):
            sureness[document_id] = sureness.get(document_id, 1.0) * confidence
    return sureness


def _disagreements(
    keys: Sequence[Key], graded_a: dict[Key, float], graded_b: dict[Key, float], *, sureness: dict[str, float]
) -> tuple[str, ...]:
    """One document per text, alternating between those that only `a` and only `b` has right."""
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for key in keys:
        right = (graded_a[key] == 1.0, graded_b[key] == 1.0)
        if right[0] != right[1]:
            sides[right.index(True)].setdefault(key[1], key[0])
    ordered = [sorted(side.values(), key=lambda document_id: (-sureness[document_id], document_id)) for side in sides]
    turns = [side[turn] for turn in range(max(map(len, ordered))) for side in ordered if turn < len(side)]
    return tuple(turns[:DISAGREEMENTS])
