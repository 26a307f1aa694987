"""Which live documents are to be labelled, and what their labels say about the accuracy of all of them.

Every live text is considered once, with a known probability of being drawn; one uniform number per text, a hash,
decides. Weighting a drawn text by the inverse of its probability makes the estimate hold for all live texts, although
doubtful ones are drawn more often.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

from llm_platform.application.monitoring import Labelling
from llm_platform.evaluation.sequential import sequence_bounds
from llm_platform.records import Record

LiveStanding = Literal["below its minimum", "at least its minimum", "cannot tell"]


class Draw(Record):
    """What the draw says of one text.

    Attributes:
        reason: What gave the text its probability: `drifted`, `low confidence` or `audit`.
    """

    probability: float
    selected: bool
    reason: str


class FreshAccuracy(Record):
    """Accuracy of live answers, from the labelled ones among those drawn.

    Attributes:
        labelled: Drawn texts that have a known answer; `drawn` were drawn, of `considered`.
        value: Weighted mean score; None without labels.
        upper: Bound that holds at every look, however often one looks; `lower` likewise.
        effective: Labels that an equally weighted sample would need to say as much.
    """

    considered: int
    drawn: int
    labelled: int
    value: float | None = None
    lower: float = 0.0
    upper: float = 1.0
    effective: float = 0.0
    confidence: float
    minimum: float | None = None
    standing: LiveStanding = "cannot tell"


def draw(fingerprint: str, confidence: float | None, *, drifted: bool, rules: Labelling) -> Draw:
    """Whether a live text is to be labelled. Equal texts and seeds give equal draws."""
    reasons = {"audit": rules.audit_share}
    if confidence is not None and confidence < rules.low_confidence_below:
        reasons["low confidence"] = rules.low_confidence_share
    if drifted:
        reasons["drifted"] = rules.drifted_share
    reason = max(reasons, key=lambda name: reasons[name])
    probability = reasons[reason]
    return Draw(probability=probability, selected=_uniform(fingerprint, rules.seed) < probability, reason=reason)


def fresh_accuracy(
    scores: Sequence[float],
    probabilities: Sequence[float],
    *,
    considered: int,
    drawn: int,
    confidence: float,
    minimum: float | None,
) -> FreshAccuracy:
    """Accuracy of all live answers, from the drawn and labelled ones.

    The estimate is Hájek's: the mean weighted by inverse probabilities. Its bounds are a confidence sequence on Kish's
    effective count, so that looking after every run adds no false alarms. The accuracy is below its minimum when the
    upper bound is.

    Args:
        scores: Grades in [0, 1], one per labelled text.
        probabilities: With which each of these was drawn.
        considered: Live texts that went through the draw.
        drawn: Of them, drawn.
        confidence: Of the two-sided sequence.
        minimum: What the accuracy is held against; None holds it against nothing.

    Source: Hájek 1971; Kish 1965; the sequence is described in `sequential.py`.
    """
    counts = {"considered": considered, "drawn": drawn, "labelled": len(scores)}
    if not scores:
        return FreshAccuracy(**counts, confidence=confidence, minimum=minimum)
    weights = [1.0 / probability for probability in probabilities]
    total = math.fsum(weights)
    value = math.fsum(weight * score for weight, score in zip(weights, scores, strict=True)) / total
    effective = total * total / math.fsum(weight * weight for weight in weights)
    lower, upper = sequence_bounds(value, effective, confidence=confidence)
    standing: LiveStanding = "cannot tell"
    if minimum is not None and upper < minimum:
        standing = "below its minimum"
    elif minimum is not None and lower >= minimum:
        standing = "at least its minimum"
    return FreshAccuracy(
        **counts,
        value=value,
        lower=lower,
        upper=upper,
        effective=effective,
        confidence=confidence,
        minimum=minimum,
        standing=standing,
    )


def _uniform(fingerprint: str, seed: int) -> float:
    """A number in [0, 1) that belongs to a text and a seed."""
    digest = hashlib.sha256(f"{seed}:{fingerprint}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
