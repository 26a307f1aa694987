"""Intervals that stay right however often somebody looks.

A 0.95 interval is right in 95 of 100 cases at one look that was fixed before. Whoever looks after every batch of labels
and stops when the bound clears its minimum has looked many times, and is wrong far more often. A confidence sequence
holds at all looks together: with probability `confidence` it never leaves out the true mean.

The one here inverts a mixture of likelihood ratios with a Beta(1/2, 1/2) weight over the alternatives. For scores that
are right or wrong it is exact; for partial scores in [0, 1] it is conservative, because the ratio is convex in the
score and so never larger on average than for right-or-wrong scores of the same mean.

Source: Robbins 1970; Ville 1939 for the bound; Waudby-Smith and Ramdas 2024, appendix B, for bounded scores.
"""

from __future__ import annotations

import math

PRIOR = 0.5
EDGE = 1e-12
LARGEST_COUNT = 10_000_000


def sequence_bounds(value: float, count: float, *, confidence: float) -> tuple[float, float]:
    """Bounds of the mean after `count` scores with mean `value`, valid at all counts together.

    `count` may be fractional, as an effective sample size is.
    """
    from scipy.optimize import brentq

    limit = -math.log1p(-confidence)
    successes = value * count

    def excess(mean: float) -> float:
        return _log_evidence(mean, successes, count) - limit

    middle = min(max(value, EDGE), 1.0 - EDGE)
    lower = float(brentq(excess, EDGE, middle, xtol=1e-10)) if excess(EDGE) > 0.0 else 0.0
    upper = float(brentq(excess, middle, 1.0 - EDGE, xtol=1e-10)) if excess(1.0 - EDGE) > 0.0 else 1.0
    # Nine digits: the solver's last bits differ between machines, and a report's id is a hash of its numbers.
    return round(max(0.0, min(lower, value)), 9), round(min(1.0, max(upper, value)), 9)


def labels_needed_at_any_look(value: float, minimum: float, confidence: float, *, count: float = 0.0) -> int | None:
    """How many more labelled documents until the sequence's lower bound reaches `minimum`, if `value` stays the mean.

    Returns:
        None when no number of labels up to ten million would do.
    """
    if minimum <= 0.0:
        return 0
    if value <= minimum:
        return None
    limit = -math.log1p(-confidence)

    def is_enough(size: float) -> bool:
        return _log_evidence(minimum, value * size, size) >= limit

    high = max(1, math.ceil(count))
    if is_enough(count) and count > 0:
        return 0
    while not is_enough(high):
        high *= 2
        if high > LARGEST_COUNT:
            return None
    low = max(0, math.floor(count))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return max(0, math.ceil(high - count))


def _log_evidence(mean: float, successes: float, count: float) -> float:
    """Logarithm of the mixture's likelihood ratio against a true mean of `mean`."""
    from scipy.special import betaln

    failures = count - successes
    mixture = float(betaln(PRIOR + successes, PRIOR + failures) - betaln(PRIOR, PRIOR))
    against = 0.0
    if successes > 0:
        against += successes * math.log(mean)
    if failures > 0:
        against += failures * math.log1p(-mean)
    return mixture - against
