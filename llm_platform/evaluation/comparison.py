"""Two variants on the same documents: which one is right more often, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.application.model import Looks
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.pairing import difference_interval, holm, is_partial, paired_bootstrap
from llm_platform.evaluation.regression import Key, graded, paired_means
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.selection import evaluation_rows, require_columns
from llm_platform.evaluation.sequential import sequence_p_value
from llm_platform.evaluation.statistics import mcnemar
from llm_platform.evaluation.wording import counted, interval_text, probability
from llm_platform.records import Interval, Record, Score

if TYPE_CHECKING:
    import pandas as pd

DISAGREEMENTS = 20
MCNEMAR = "exact McNemar test"
BOOTSTRAP = "paired bootstrap"
SEQUENCE = "confidence sequence, valid at every look"


@dataclass(frozen=True)
class JudgedVariant:
    """A variant to compare: its report, and the answers and scores that the report was built from.

    Only scores by the report's own scorer are compared.
    """

    report: Report
    answers: pd.DataFrame
    scores: Sequence[Score]


class Comparison(Record):
    """A paired comparison over distinct texts of the evaluation split; right means a score of 1.

    Attributes:
        difference: Mean score of `b` minus that of `a`, over texts.
        p_value: That both are right equally often; for partial scores, that both score the same on average.
        test: Which test it is of.
        comparisons: How many comparisons were made together; `p_value` is corrected for them by Holm's method.
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
    test: str = MCNEMAR
    comparisons: int = 1
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
        better, worse = (self.b, self.a) if self.difference.value > 0 else (self.a, self.b)
        claim = "is right more often than" if self.test == MCNEMAR else "scores higher than"
        return f"{better} {claim} {worse} on the same {texts} ({probability(self.p_value)})."

    @property
    def test_text(self) -> str:
        """The test, and what it was corrected for."""
        corrected = f", corrected for {self.comparisons} comparisons (Holm)" if self.comparisons > 1 else ""
        return f"{self.test}{corrected}"

    @property
    def difference_text(self) -> str:
        """`0.24 [0.15, 0.33]`."""
        return interval_text(self.difference)


def compare_all(
    pairs: Sequence[tuple[JudgedVariant, JudgedVariant]], *, references: pd.DataFrame, looks: Looks = "once"
) -> list[Comparison]:
    """Compare several pairs together: p-values are corrected, so that no pair stands out for being one of many.

    Raises:
        ContractBroken: as `compare`.
    """
    compared = [compare(a, b, references=references, looks=looks) for a, b in pairs]
    corrected = holm([comparison.p_value for comparison in compared])
    return [
        comparison.model_copy(update={"p_value": p_value, "comparisons": len(compared)})
        for comparison, p_value in zip(compared, corrected, strict=True)
    ]


def compare(a: JudgedVariant, b: JudgedVariant, *, references: pd.DataFrame, looks: Looks = "once") -> Comparison:
    """Compare two variants on the documents of the evaluation split that both have a score for.

    Documents that share a text, or a cluster, count once, with their mean score.

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
    pairs = paired_means(keys, clusters_of(rows), scores_a, scores_b)
    if not pairs:
        raise ContractBroken(
            f"Cannot compare {a.report.variant!r} and {b.report.variant!r}: no document has both scores."
        )
    differences = [y - x for x, y in pairs]
    rights = [(x == 1.0, y == 1.0) for x, y in pairs]
    only_a, only_b = rights.count((True, False)), rights.count((False, True))
    confidence = a.report.accuracy.confidence if a.report.accuracy is not None else 0.95
    p_value, test = _tested(differences, only_a, only_b, looks=looks)
    return Comparison(
        a=a.report.variant,
        b=b.report.variant,
        a_release_id=a.report.release_id,
        b_release_id=b.report.release_id,
        evaluation_id=a.report.evaluation_id,
        difference=difference_interval(differences, confidence=confidence, at_any_look=looks == "any"),
        p_value=p_value,
        test=test,
        both_right=rights.count((True, True)),
        only_a=only_a,
        only_b=only_b,
        both_wrong=rights.count((False, False)),
        disagreements=_disagreements(shared, scores_a, scores_b, sureness=_sureness(a.answers, b.answers)),
    )


def _own(variant: JudgedVariant) -> dict[Key, float]:
    return graded([score for score in variant.scores if score.scorer == variant.report.scorer])


def _tested(differences: Sequence[float], only_a: int, only_b: int, *, looks: Looks) -> tuple[float, str]:
    if looks == "any":
        mean = sum(differences) / len(differences)
        return sequence_p_value((mean + 1.0) / 2.0, len(differences), expected=0.5), SEQUENCE
    if is_partial(differences):
        return paired_bootstrap(differences), BOOTSTRAP
    return mcnemar(only_a, only_b), MCNEMAR


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
