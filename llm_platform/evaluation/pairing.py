"""Is B better than A: the one answer that the report card, `compare`, adapters and gates give.

Both have answered the same texts. A text counts once, with the mean score of its documents; so does a cluster, with the
mean of its texts. What is left are differences in [-1, 1] that are independent of each other, however few, and the
rules say how they are judged:

- `looks: once`: Student's interval with one imagined text in favour of either side, after Bonett and Price, so that no
  disagreement so far is not taken for none ever. The degrees of freedom are those of clusters: two clusters of twenty
  documents are two observations, and nothing short of a miracle is shown by two.
- `looks: any`: bets (`betting.py`), whose interval holds at all looks together and for any number of clusters.
- several comparisons: each is made at a confidence that makes all of them hold together (Bonferroni). Holm's method
  finds a little more, but has no intervals that agree with it.

The verdict is read off the interval. The p-value is that of the same interval: it is below 1 - confidence exactly where
zero is outside.

Source: Bonett and Price 2012; Student 1908; Dunn 1961 for several comparisons at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

from llm_platform.application.evaluation import Looks
from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.betting import betting_bounds, betting_p_value, texts_needed
from llm_platform.evaluation.statistics import quantile
from llm_platform.evaluation.wording import counted, interval_text, probability
from llm_platform.records import Interval, Record

STUDENT = "Student's interval of paired differences, one imagined text for either side"
BETTING = "confidence sequence by betting, valid at every look"


@dataclass(frozen=True)
class Rules:
    """How comparisons are judged.

    Attributes:
        confidence: With which all comparisons that are made together are right.
        looks: `any` where people look after every batch of labels.
        comparisons: How many are made together.
    """

    confidence: float
    looks: Looks = "once"
    comparisons: int = 1

    @classmethod
    def of(cls, application: Application) -> Rules:
        """The rules of an application, for a single comparison."""
        gates = application.evaluation.gates
        return cls(confidence=gates.confidence, looks=gates.looks)

    def together(self, comparisons: int) -> Rules:
        """The same rules for so many comparisons at once."""
        return replace(self, comparisons=max(1, comparisons))

    @property
    def level(self) -> float:
        """Confidence of each single comparison."""
        return 1.0 - (1.0 - self.confidence) / self.comparisons


class PairedScore(NamedTuple):
    """What two variants scored on one document.

    Attributes:
        text: Fingerprint.
        cluster: Of texts that are not independent.
    """

    text: str
    cluster: str
    a: float
    b: float


class PairedDifference(Record):
    """How much better B is than A on the same texts, and how sure that is.

    Attributes:
        difference: Mean score of `b` minus that of `a` over clusters, of which it holds the number.
        p_value: That both score the same; corrected for `comparisons`.
        test: What interval and p-value are.
        comparisons: How many were made together.
        texts: How many different texts; 0 in what was stored before texts and clusters were told apart.
        is_whole: Each difference is a text that one has right and the other wrong, or none.
    """

    difference: Interval
    p_value: float
    test: str = ""
    comparisons: int = 1
    texts: int = 0
    is_whole: bool = False

    @property
    def is_better(self) -> bool:
        """Whether `b` is shown to be better than `a`."""
        return self.difference.lower > 0.0

    @property
    def is_worse(self) -> bool:
        """Whether `b` is shown to be worse than `a`."""
        return self.difference.upper < 0.0

    @property
    def counted_text(self) -> str:
        """`100 texts`, `37 texts in 2 clusters`."""
        clusters = self.difference.count
        texts = self.texts or clusters
        within = "" if texts == clusters else f" in {counted(clusters, 'cluster')}"
        return f"{counted(texts, 'text')}{within}"

    @property
    def difference_text(self) -> str:
        """`0.24 [0.15, 0.33]`."""
        return interval_text(self.difference)

    @property
    def test_text(self) -> str:
        """What interval and p-value are, and what they were corrected for."""
        corrected = f", corrected for {self.comparisons} comparisons (Bonferroni)" if self.comparisons > 1 else ""
        return f"{self.test}{corrected}"

    def sentence(self, a: str, b: str) -> str:
        """The outcome in one sentence."""
        if not (self.is_better or self.is_worse):
            return (
                f"No difference between {a} and {b} can be shown on {self.counted_text} ({probability(self.p_value)})."
            )
        better, worse = (b, a) if self.is_better else (a, b)
        claim = "is right more often than" if self.is_whole else "scores higher than"
        return f"{better} {claim} {worse} on the same {self.counted_text} ({probability(self.p_value)})."


def compare_scores(scores: Iterable[PairedScore], *, rules: Rules) -> PairedDifference:
    """Compare two variants on the documents that both have a score for.

    Raises:
        ContractBroken: there is none.
    """
    pairs = list(scores)
    differences = cluster_differences(pairs)
    interval, p_value = difference_of(differences, rules=rules)
    return PairedDifference(
        difference=interval,
        p_value=p_value,
        test=BETTING if rules.looks == "any" else STUDENT,
        comparisons=rules.comparisons,
        texts=len({pair.text for pair in pairs}),
        is_whole=all(abs(value) in (0.0, 1.0) for value in differences),
    )


def text_scores(scores: Iterable[PairedScore]) -> list[PairedScore]:
    """One for each text: the mean scores of its documents; its cluster is that of the first."""
    texts: dict[str, list[PairedScore]] = defaultdict(list)
    for score in scores:
        texts[score.text].append(score)
    return [
        PairedScore(text, rows[0].cluster, _mean(row.a for row in rows), _mean(row.b for row in rows))
        for text, rows in texts.items()
    ]


def cluster_differences(scores: Iterable[PairedScore]) -> list[float]:
    """The mean of `b` minus `a` of each cluster, over its texts."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for score in text_scores(scores):
        clusters[score.cluster].append(score.b - score.a)
    return [_mean(values) for values in clusters.values()]


def difference_of(differences: Sequence[float], *, rules: Rules) -> tuple[Interval, float]:
    """Mean of independent differences in [-1, 1] with its interval, and the p-value that it is zero.

    Raises:
        ContractBroken: there is no difference.
    """
    if not differences:
        raise ContractBroken("Cannot compare two variants over no texts: they share no graded document.")
    value = math.fsum(differences) / len(differences)
    if rules.looks == "any":
        lower, upper = betting_bounds(differences, confidence=rules.level)
        p_value = betting_p_value(differences)
    else:
        lower, upper = _student_bounds(differences, confidence=rules.level)
        p_value = _student_p_value(differences)
    interval = Interval(
        value=value,
        lower=min(lower, value),
        upper=max(upper, value),
        confidence=rules.confidence,
        count=len(differences),
    )
    return interval, min(1.0, rules.comparisons * p_value)


def more_texts(differences: Sequence[float], margin: float, *, rules: Rules) -> int | None:
    """How many more texts until the lower bound could clear `-margin`, if what was measured goes on as it is.

    Returns:
        None when no number of texts would do, because the measured difference is not above `-margin`.
    """
    if rules.looks == "any":
        return texts_needed(differences, margin, rules.level)
    return pairs_needed(differences, margin, rules.level)


def pairs_needed(differences: Sequence[float], margin: float, confidence: float, *, power: float = 0.5) -> int | None:
    """`more_texts` for one look, by the normal approximation.

    Args:
        power: Chance of clearing, if what was measured is true.
    """
    count = len(differences)
    value = math.fsum(differences) / count
    if value <= -margin:
        return None
    # One imagined text on either side, as in the interval: no disagreement so far is not none ever.
    variance = (math.fsum(d * d for d in differences) + 2.0) / (count + 2) - (math.fsum(differences) / (count + 2)) ** 2
    distance = (quantile(confidence) + NormalDist().inv_cdf(power)) * math.sqrt(variance) / (value + margin)
    return max(0, math.ceil(distance**2 - count))


def _student_bounds(differences: Sequence[float], *, confidence: float) -> tuple[float, float]:
    from scipy.stats import t as student

    if len(differences) < 2:
        return -1.0, 1.0
    centre, error = _adjusted(differences)
    half = float(student.ppf((1.0 + confidence) / 2.0, len(differences) - 1)) * error
    return max(-1.0, centre - half), min(1.0, centre + half)


def _student_p_value(differences: Sequence[float]) -> float:
    from scipy.stats import t as student

    if len(differences) < 2:
        return 1.0
    centre, error = _adjusted(differences)
    return float(2.0 * student.sf(abs(centre) / error, len(differences) - 1))


def _adjusted(differences: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, with one imagined difference of +1 and one of -1.

    Source: Bonett and Price 2012, equation 2.
    """
    count = len(differences) + 2
    centre = math.fsum(differences) / count
    spread = (math.fsum(value * value for value in differences) + 2.0) / count - centre * centre
    return centre, math.sqrt(spread / count)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
