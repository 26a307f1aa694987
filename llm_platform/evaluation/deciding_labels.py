"""What labels say of two variants when they were asked for where they decide: on texts that the two answer differently.

Texts stand in one random order that has nothing to do with what they say. In that order people are asked for those on
which the answers differ (probability 1), and for a small, known share of those on which they agree. An answer that is
the same has the same score, so where they agree the difference is known to be zero, and no label is needed for it. Up
to the first text that is asked for and not yet labelled, then, the difference of *every* text is known: these texts are
a random sample of all, as if each had been labelled, and are compared by the same rules as any others. The measured
difference is unbiased also when somebody stops after so many labels, because the sample ends just before the next text
that is asked for; with `looks: any` its interval holds at every look.

How often each variant is right needs the share on which they agree: there each label stands for the inverse of its
probability, as strata of known size. Those two intervals hold at every look, whatever the rules say.

A text that people could not judge counts as one on which neither is better.

Source: Haldane 1945 for the estimate that stops before the next one; Cochran 1977, chapter 5, for the strata.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.pairing import PairedDifference, PairedScore, Rules, compare_scores
from llm_platform.evaluation.sequential import sequence_bounds
from llm_platform.records import Interval, Record


class AnsweredText(NamedTuple):
    """A text that both variants have answered.

    Attributes:
        cluster: Of texts that are not independent.
        differs: Whether the answers differ.
        checked: Whether its label is asked for although they agree.
        judged: Whether a label is there, or people could not tell.
        a, b: Scores by that label; None without one.
    """

    text: str
    cluster: str
    differs: bool
    checked: bool
    judged: bool
    a: float | None = None
    b: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether its label is asked for."""
        return self.differs or self.checked


class LabelledDifference(Record):
    """Two variants on the texts up to the first one that still waits for its label.

    Attributes:
        answered: Texts that both have answered; on `differing` of them the answers differ.
        texts: Those up to the first that waits; every difference among them is known.
        labels: How many labels that took; `checked` of them on texts on which both agree.
        difference: `b` minus `a` over these texts; None where there is none.
        accuracy_a, accuracy_b: Mean scores on all that both have answered; None where a stratum has no label.
    """

    answered: int
    differing: int
    texts: int
    labels: int
    checked: int
    difference: PairedDifference | None
    accuracy_a: Interval | None
    accuracy_b: Interval | None

    @property
    def saved(self) -> int:
        """Labels that were not needed: those of the other texts whose difference is known."""
        return self.texts - self.labels


def labelled_difference(rows: Sequence[AnsweredText], *, rules: Rules) -> LabelledDifference:
    """Compare two variants on what is labelled so far.

    Args:
        rows: Every text that both have answered, in the random order in which labels are asked for.
        rules: How the difference is judged.

    Raises:
        ContractBroken: a text occurs twice.
    """
    if len({row.text for row in rows}) < len(rows):
        raise ContractBroken(
            f"Cannot compare on {len(rows)} answered texts: one occurs twice, and would count twice. Give each once."
        )
    known = list(itertools.takewhile(lambda row: row.judged or not row.is_asked, rows))
    differing = [row for row in known if row.differs]
    checked = [row for row in known if row.checked and not row.differs]
    share = sum(row.differs for row in rows) / len(rows) if rows else 0.0
    return LabelledDifference(
        answered=len(rows),
        differing=sum(row.differs for row in rows),
        texts=len(known),
        labels=len(differing) + len(checked),
        checked=len(checked),
        difference=compare_scores(map(_paired, known), rules=rules) if known else None,
        accuracy_a=_accuracy([_given(differing, "a"), _given(checked, "a")], [share, 1.0 - share], rules.level),
        accuracy_b=_accuracy([_given(differing, "b"), _given(checked, "b")], [share, 1.0 - share], rules.level),
    )


def _paired(row: AnsweredText) -> PairedScore:
    if row.differs and row.a is not None and row.b is not None:
        return PairedScore(row.text, row.cluster, row.a, row.b)
    return PairedScore(row.text, row.cluster, 0.0, 0.0)


def _given(rows: Iterable[AnsweredText], side: str) -> list[float]:
    scores = (row.a if side == "a" else row.b for row in rows)
    return [score for score in scores if score is not None]


def _accuracy(strata: Sequence[Sequence[float]], shares: Sequence[float], confidence: float) -> Interval | None:
    """Mean over strata of known shares, of which each is sampled at random; its bounds hold at every look."""
    parts = [(scores, share) for scores, share in zip(strata, shares, strict=True) if share > 0.0]
    if not parts or any(not scores for scores, _ in parts):
        return None
    each = 1.0 - (1.0 - confidence) / len(parts)
    value = lower = upper = 0.0
    for scores, share in parts:
        mean = math.fsum(scores) / len(scores)
        bounds = sequence_bounds(mean, len(scores), confidence=each)
        value, lower, upper = value + share * mean, lower + share * bounds[0], upper + share * bounds[1]
    count = sum(len(scores) for scores, _ in parts)
    return Interval(value=value, lower=min(lower, value), upper=max(upper, value), confidence=confidence, count=count)
