"""Any-look bounds from a mixture of likelihoods against the best likelihood that the claim allows.

The ratio of a mixture's likelihood to the largest that a claim allows is at most the ratio to the true one, which is a
martingale with mean 1: so it reaches 1 / α with chance α at most, at whatever look. It uses sums only, does not depend
on order, and serves every margin. Partial scores are right where they stand for the sums: each factor is convex in the
score, so never larger on average than for whole scores with the same means.

Two designs are here. In the unpaired one each document was answered by one of two variants, as in an A/B split; it
decides there. In the paired one both answered the same documents; there `betting.py` decides, because it needs about
half the labels, and this one stands beside it in the benchmark and in the tests.

Source: Robbins 1970; Wasserman, Ramdas and Balakrishnan 2020 (the largest likelihood in the denominator); Jeffreys 1946
for the weights of 1/2; Tango 1998 for the paired maximum; Miettinen and Nurminen 1985 for the unpaired one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llm_platform.errors import ContractBroken
from llm_platform.records import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WEIGHT = 0.5
HALVINGS = 60


def log_mixture(counts: Floats, weights: Floats) -> Floats:
    """Logarithm of the likelihood of a sequence with these counts, averaged over rates with Dirichlet weights.

    Args:
        counts: How often each outcome occurred, shape (..., outcomes); may be fractions.
        weights: Of the Dirichlet distribution, shape (outcomes,).
    """
    from scipy.special import gammaln

    whole = gammaln(weights.sum()) - gammaln(weights.sum() + counts.sum(axis=-1))
    found: Floats = whole + (gammaln(weights + counts) - gammaln(weights)).sum(axis=-1)
    return found


def paired_log_evidence(wins: Any, ties: Any, losses: Any, *, expected: float) -> Floats:
    """Logarithm of the evidence that the rate of wins minus that of losses is not `expected`.

    The mixture is Dirichlet(1/2, 1/2, 1/2) over (wins, ties, losses). Arrays are taken element by element.
    """
    import numpy as np

    counts = np.stack(np.broadcast_arrays(wins, ties, losses), axis=-1).astype(np.float64)
    return log_mixture(counts, np.full(3, WEIGHT)) - paired_largest(wins, ties, losses, expected=expected)


def paired_largest(wins: Any, ties: Any, losses: Any, *, expected: float) -> Floats:
    """Logarithm of the largest likelihood of these counts under rates of wins and losses `expected` apart.

    With x for the smaller of the two rates the slope of the likelihood is zero where
    2n x² - ((w + l)(1 - δ) - 2δ(l + t)) x - l δ(1 - δ) is, which has one root that is a rate.
    """
    import numpy as np
    from scipy.special import xlogy

    more, less = np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    even = np.asarray(ties, dtype=np.float64)
    if expected < 0.0:
        more, less = less, more
    apart = abs(expected)
    linear = (more + less) * (1.0 - apart) - 2.0 * apart * (less + even)
    constant = less * apart * (1.0 - apart)
    total = more + even + less
    root = np.sqrt(linear * linear + 8.0 * total * constant)
    # Each sign of the linear term has a form that subtracts nothing of equal size.
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(linear >= 0.0, (linear + root) / (4.0 * total), 2.0 * constant / (root - linear))
    rate = np.clip(np.nan_to_num(rate), 0.0, (1.0 - apart) / 2.0)
    found: Floats = (
        xlogy(more, rate + apart) + xlogy(less, rate) + xlogy(even, np.maximum(1.0 - apart - 2.0 * rate, 0.0))
    )
    return found


def paired_bounds(wins: float, ties: float, losses: float, *, confidence: float) -> tuple[float, float]:
    """Bounds of the rate of wins minus that of losses, valid at all counts together."""
    value = (wins - losses) / (wins + ties + losses)
    return _bounds(
        lambda expected: float(paired_log_evidence(wins, ties, losses, expected=expected)), value, confidence=confidence
    )


def unpaired_difference(a: Sequence[float], b: Sequence[float], *, confidence: float) -> tuple[Interval, float]:
    """Mean score of `b` minus that of `a`, which answered other documents, and the p-value that it is zero.

    Both hold at every look. The count is that of all scores. Of documents that are alike, give each cluster's mean.

    Raises:
        ContractBroken: one of the two has no score.
    """
    if not a or not b:
        raise ContractBroken(
            f"Cannot compare {len(a)} scores with {len(b)}: one variant has none. Wait until both have answered "
            "labelled documents."
        )
    sums, counts = (math.fsum(a), math.fsum(b)), (float(len(a)), float(len(b)))
    value = sums[1] / counts[1] - sums[0] / counts[0]
    lower, upper = unpaired_bounds(sums, counts, confidence=confidence)
    evidence = unpaired_log_evidence(sums, counts, expected=0.0)
    interval = Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=len(a) + len(b))
    return interval, min(1.0, math.exp(-max(0.0, evidence)))


def unpaired_log_evidence(sums: tuple[float, float], counts: tuple[float, float], *, expected: float) -> float:
    """Logarithm of the evidence that the mean of `b` minus that of `a` is not `expected`.

    Args:
        sums: Of the scores in [0, 1] of `a` and of `b`.
        counts: Of these scores.
        expected: The claimed difference.
    """
    import numpy as np

    mixture = sum(
        float(log_mixture(np.array([total, count - total]), np.full(2, WEIGHT)))
        for total, count in zip(sums, counts, strict=True)
    )
    return mixture - unpaired_largest(sums, counts, expected=expected)


def unpaired_largest(sums: tuple[float, float], counts: tuple[float, float], *, expected: float) -> float:
    """Logarithm of the largest likelihood of two means that are `expected` apart."""
    from scipy.special import xlog1py, xlogy

    (right_a, right_b), (wrong_a, wrong_b) = sums, tuple(n - s for n, s in zip(counts, sums, strict=True))
    low, high = max(0.0, -expected), min(1.0, 1.0 - expected)

    def slope(mean: float) -> float:
        return (
            _over(right_a, mean)
            - _over(wrong_a, 1.0 - mean)
            + _over(right_b, mean + expected)
            - _over(wrong_b, 1.0 - mean - expected)
        )

    # The likelihood is concave in the mean, so halving finds its top, also where that is at an end.
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(middle) > 0.0 else (low, middle)
    mean = (low + high) / 2.0
    other = min(max(mean + expected, 0.0), 1.0)
    return float(xlogy(right_a, mean) + xlog1py(wrong_a, -mean) + xlogy(right_b, other) + xlog1py(wrong_b, -other))


def unpaired_bounds(
    sums: tuple[float, float], counts: tuple[float, float], *, confidence: float
) -> tuple[float, float]:
    """Bounds of the mean of `b` minus that of `a`, valid at all counts of both together."""
    value = sums[1] / counts[1] - sums[0] / counts[0]
    return _bounds(
        lambda expected: unpaired_log_evidence(sums, counts, expected=expected), value, confidence=confidence
    )


def _over(count: float, rate: float) -> float:
    if count <= 0.0:
        return 0.0
    return count / rate if rate > 0.0 else math.inf


def _bounds(evidence: Callable[[float], float], value: float, *, confidence: float) -> tuple[float, float]:
    """Where the evidence reaches its limit on either side of the measured value.

    The largest likelihood is concave in the difference, so what is left in is one interval.
    """
    from scipy.optimize import brentq

    limit, edge = -math.log1p(-confidence), 1.0 - 1e-9
    middle = min(max(value, -edge), edge)

    def excess(expected: float) -> float:
        # An impossible difference has a likelihood of zero: any large number is evidence enough.
        return min(evidence(expected) - limit, 1e9)

    lower = float(brentq(excess, -edge, middle, xtol=1e-10)) if excess(-edge) > 0.0 else -1.0
    upper = float(brentq(excess, middle, edge, xtol=1e-10)) if excess(edge) > 0.0 else 1.0
    return round(max(-1.0, min(lower, value)), 9), round(min(1.0, max(upper, value)), 9)
