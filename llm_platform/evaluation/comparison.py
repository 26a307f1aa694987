"""Two variants on the same documents: which one is right more often, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.pairing import PairedDifference, Rules, compare_scores, text_scores
from llm_platform.evaluation.regression import Key, graded, paired_scores
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.selection import evaluation_rows, require_columns
from llm_platform.records import Score

if TYPE_CHECKING:
    import pandas as pd

DISAGREEMENTS = 20


@dataclass(frozen=True)
class JudgedVariant:
    """A variant to compare: its report, and the answers and scores that the report was built from.

    Only scores by the report's own scorer are compared.
    """

    report: Report
    answers: pd.DataFrame
    scores: Sequence[Score]


class Comparison(PairedDifference):
    """A paired comparison over distinct texts of the evaluation split; right means a score of 1.

    Attributes:
        disagreements: Ids of documents that one variant has right and the other wrong, those first where both were
            surest; the two directions take turns.
    """

    a: str
    b: str
    a_release_id: str
    b_release_id: str
    evaluation_id: str
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    disagreements: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        return self.sentence(self.a, self.b)


def compare_all(
    pairs: Sequence[tuple[JudgedVariant, JudgedVariant]], *, references: pd.DataFrame, rules: Rules
) -> list[Comparison]:
    """Compare several pairs together: all are right with the stated confidence, so that none stands out for being one
    of many.

    Raises:
        ContractBroken: as `compare`.
    """
    return [compare(a, b, references=references, rules=rules.together(len(pairs))) for a, b in pairs]


def compare(a: JudgedVariant, b: JudgedVariant, *, references: pd.DataFrame, rules: Rules) -> Comparison:
    """Compare two variants on the documents of the evaluation split that both have a score for.

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
    scores_a, scores_b = _own(a), _own(b)
    shared = [key for key in keys if key in scores_a and key in scores_b]
    pairs = paired_scores(keys, clusters_of(rows), scores_a, scores_b)
    if not pairs:
        raise ContractBroken(
            f"Cannot compare {a.report.variant!r} and {b.report.variant!r}: no document has both scores."
        )
    rights = [(pair.a == 1.0, pair.b == 1.0) for pair in text_scores(pairs)]
    return Comparison(
        **dict(compare_scores(pairs, rules=rules)),
        a=a.report.variant,
        b=b.report.variant,
        a_release_id=a.report.release_id,
        b_release_id=b.report.release_id,
        evaluation_id=a.report.evaluation_id,
        both_right=rights.count((True, True)),
        only_a=rights.count((True, False)),
        only_b=rights.count((False, True)),
        both_wrong=rights.count((False, False)),
        disagreements=_disagreements(shared, scores_a, scores_b, sureness=_sureness(a.answers, b.answers)),
    )


def _own(variant: JudgedVariant) -> dict[Key, float]:
    return graded([score for score in variant.scores if score.scorer == variant.report.scorer])


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
