"""Any-look evidence from a mixture of likelihoods against the best likelihood that the claim allows.

The ratio of a mixture's likelihood to the largest that a claim allows is at most the ratio to the true one, which is a
martingale with mean 1: so it reaches 1 / α with chance α at most, at whatever look. It uses sums only, does not depend
on order, and serves every margin. Partial scores are right where they stand for the sums: each factor is convex in the
score, so never larger on average than for whole scores with the same means.

What bets (`evaluation/betting.py`) are held against. In the paired design both variants answered the same documents:
there bets need about half the labels. In the unpaired one each document was answered by one of the two, as in an A/B
split: that is what answering with both saves.

Source: Robbins 1970; Wasserman, Ramdas and Balakrishnan 2020 (the largest likelihood in the denominator); Jeffreys 1946
for the weights of 1/2; Tango 1998 for the paired maximum; Miettinen and Nurminen 1985 for the unpaired one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llm_platform.evaluation.sample_ratio import log_mixture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WEIGHT = 0.5
HALVINGS = 60


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


def _over(count: float, rate: float) -> float:
    if count <= 0.0:
        return 0.0
    return count / rate if rate > 0.0 else math.inf
