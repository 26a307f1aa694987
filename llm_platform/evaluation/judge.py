"""How far a judge can be believed: its agreement with people, and what beside the answer decides its verdicts.

A judge's verdict is right or wrong at 0.5 of its scale. Agreement is Cohen's kappa: what of it remains when the share
that two blind people with the same habits would reach is taken away. A judge that says "right" to everything has 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.statistics import share
from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.records import Interval, Record
from llm_platform.records.figures import figure

FEW = 3
"""With fewer different lengths there is no correlation to speak of."""


class Opinion(Record):
    """One verdict of a judge beside what people say of the same thing.

    Attributes:
        key: What was judged, hashed as the judge read it: equal keys are one observation.
        score: Of the judge; None where it said nothing that counts.
        reason: Why there is no score.
        people: Score by people or by the known answer, for the same thing; None where they have not said.
        length: Characters of the answer, or of the first less those of the second.
    """

    key: str
    score: float | None
    reason: str | None = None
    people: float | None = None
    length: int = 0


class LengthBias(Record):
    """Spearman's rank correlation of a judge's score with length, over `count` verdicts."""

    correlation: float
    p_value: float
    count: int


class JudgeAgreement(Record):
    """What was measured of one judge.

    Attributes:
        kappa: Agreement beyond chance with people; None where nobody has judged the same answers, or all agree by
            having only one opinion.
        agreed: Plain share of equal opinions.
        verdicts: Right or wrong by people, then by the judge ("right/wrong") → count.
        ungraded: Reason → verdicts without a score.
        by_hand: Opinions of people among those compared; the others are known answers.
        length: None where scores or lengths do not vary.
        position: Share of pairs whose verdict turned with their order; None for a judge that grades one answer.
        injection: Share of wrong answers that were called right once the document said so; None where not tried.
    """

    judge: str
    release_id: str
    model: str
    kappa: Interval | None
    agreed: Interval | None
    verdicts: dict[str, int]
    judged: int
    ungraded: dict[str, int]
    by_hand: int
    length: LengthBias | None
    position: Interval | None = None
    injection: Interval | None = None
    measured_at: datetime


def kappa(pairs: Sequence[tuple[bool, bool]], keys: Sequence[str], *, confidence: float) -> Interval | None:
    """Cohen's kappa of two opinions, with an interval that never claims certainty.

    Chance agreement is taken as known, as in Cohen's own standard error, and Wilson's interval on observed agreement is
    carried over: full agreement on ten answers has a lower bound well below 1.

    Args:
        pairs: The two opinions, thing by thing.
        keys: Equal keys are one observation.

    Returns:
        None where there are no pairs, or where both have one and the same opinion throughout: kappa is undefined.

    Source: Cohen 1960; Wilson 1927.
    """
    if not pairs:
        return None
    agreed = share([a == b for a, b in pairs], keys, confidence=confidence)
    a, b = (math.fsum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1))
    chance = a * b + (1.0 - a) * (1.0 - b)
    if chance == 1.0:
        return None
    value, lower, upper = ((part - chance) / (1.0 - chance) for part in (agreed.value, agreed.lower, agreed.upper))
    return Interval(value=value, lower=max(-1.0, lower), upper=upper, confidence=confidence, count=len(pairs))


def measure_agreement(
    opinions: Sequence[Opinion],
    *,
    judge: str,
    release_id: str,
    model: str,
    confidence: float,
    by_hand: int,
    turned: Sequence[bool] | None = None,
    obeyed: Sequence[bool] | None = None,
    measured_at: datetime,
) -> JudgeAgreement:
    """The agreement of a judge with people, and its biases.

    Args:
        by_hand: How many of the people's opinions were given by hand.
        turned: For each pair that was asked both ways round, whether the verdict turned with the order.
        obeyed: For each wrong answer whose document was made to call it right, whether the judge did, too.
    """
    both = [
        (one.key, one.people >= 0.5, one.score >= 0.5)
        for one in opinions
        if one.people is not None and one.score is not None
    ]
    keys, pairs = [key for key, _, _ in both], [(people, judged) for _, people, judged in both]
    counts = Counter(f"{_word(people)}/{_word(judged)}" for people, judged in pairs)
    return JudgeAgreement(
        judge=judge,
        release_id=release_id,
        model=model,
        kappa=kappa(pairs, keys, confidence=confidence),
        agreed=share([a == b for a, b in pairs], keys, confidence=confidence) if pairs else None,
        verdicts=dict(sorted(counts.items())),
        judged=len(opinions),
        ungraded=dict(sorted(Counter(one.reason or "no reason" for one in opinions if one.score is None).items())),
        by_hand=by_hand,
        length=length_bias(opinions),
        position=_share(turned, confidence),
        injection=_share(obeyed, confidence),
        measured_at=measured_at,
    )


def length_bias(opinions: Sequence[Opinion]) -> LengthBias | None:
    """Rank correlation of score and length; None where either hardly varies."""
    from scipy.stats import spearmanr

    graded = [(one.score, one.length) for one in opinions if one.score is not None]
    if len({length for _, length in graded}) < FEW or len({score for score, _ in graded}) < 2:
        return None
    found = spearmanr([score for score, _ in graded], [length for _, length in graded])
    return LengthBias(correlation=float(found.statistic), p_value=float(found.pvalue), count=len(graded))


def judge_panel(agreement: JudgeAgreement, minimum: float | None) -> Panel:
    """What a reader of a report card has to know before believing a judge."""
    measured = agreement.kappa
    if measured is None:
        said = "Its agreement with people cannot be measured yet, so it gates nothing."
    elif minimum is None:
        said = "No minimum is stated for its agreement with people, so it gates nothing."
    elif measured.lower < minimum:
        said = f"Its agreement with people is below the minimum {figure(minimum)}, so it gates nothing."
    else:
        said = f"Its agreement with people clears the minimum {figure(minimum)}."
    rows = [
        ("Agreement with people, kappa", interval_text(measured) if measured else "-", _pairs(agreement)),
        ("Same opinion", interval_text(agreement.agreed) if agreement.agreed else "-", _opinions(agreement)),
        ("Without a verdict", str(sum(agreement.ungraded.values())), "; ".join(agreement.ungraded) or "-"),
        *_biases(agreement),
    ]
    return Panel(
        title=f"Judge {agreement.judge}",
        note=f"{agreement.model} was asked about {counted(agreement.judged, 'answer')}. {said}",
        columns=("Measure", "Value", "On"),
        rows=tuple(rows),
    )


def _biases(agreement: JudgeAgreement) -> list[tuple[str, str, str]]:
    rows = []
    if agreement.length is not None:
        value = f"{agreement.length.correlation:+.2f} (p = {agreement.length.p_value:.3f})"
        rows.append(("Correlation with length", value, counted(agreement.length.count, "verdict")))
    if agreement.position is not None:
        on = counted(agreement.position.count, "pair")
        rows.append(("Verdict turns with the order", interval_text(agreement.position), on))
    if agreement.injection is not None:
        on = counted(agreement.injection.count, "wrong answer")
        rows.append(("Obeys a document that calls a wrong answer right", interval_text(agreement.injection), on))
    return rows


def _pairs(agreement: JudgeAgreement) -> str:
    count = agreement.kappa.count if agreement.kappa else 0
    return f"{counted(count, 'answer')}, {agreement.by_hand} judged by hand"


def _opinions(agreement: JudgeAgreement) -> str:
    return ", ".join(f"{key} {count}" for key, count in agreement.verdicts.items()) + " (people/judge)"


def _share(flags: Sequence[bool] | None, confidence: float) -> Interval | None:
    if not flags:
        return None
    return share(list(flags), [str(place) for place in range(len(flags))], confidence=confidence)


def _word(right: bool) -> str:
    return "right" if right else "wrong"
