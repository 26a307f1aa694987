"""Any-look bounds of a mean difference, by betting: the fewest labels of the methods that were compared.

Somebody bets against the claim "the mean difference is δ", in a game that is fair if it is. The fortune after n texts
is an e-process: the chance that it ever reaches 1 / α, at whatever look, is at most α. What is left is every δ
whose bettor has not got that far. Betting a share `b` of the fortune on "B is better" multiplies it by

    b (1 + d) / (1 + δ) + (1 - b) (1 - d) / (1 - δ)

for a difference d in [-1, 1]. The share is not chosen: fortunes of all shares are averaged, weighted by Beta(1/2, 1/2)
(Cover's universal portfolio). So the order of texts does not count; where each difference is -1, 0 or 1, three sums say
everything; and a tie costs nothing against δ = 0, which is what a mixture over (wins, ties, losses) pays for. All it
takes is that each difference has the mean δ given those before it: superiority and margins, whole and partial scores,
single texts and means of clusters are one method.

`python -m llm_platform_tests.benchmarks.decisions` holds it against the others that are published.

Source: Waudby-Smith and Ramdas 2024 (betting); Orabona and Jun 2024, Ryu and Bhatt 2024 (the universal portfolio as a
confidence sequence); Cover and Ordentlich 1996; Ville 1939.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EDGE = 1e-9
SMALLEST = 1e-300
NODES = 48
WINDOW = 9.0
"""How many standard deviations of the averaged fortunes are added up, on either side of the best share."""
HALVINGS = 26
LARGEST_COUNT = 10_000_000


def log_fortune(values: Floats, weights: Floats, expected: float) -> Floats:
    """Logarithm of the fortune of betting against a mean of `expected`.

    Args:
        values: The different differences in [-1, 1], shape (values,).
        weights: How often each occurred, shape (..., values): any number of games at once. They may be fractions, for
            planning.
        expected: In (-1, 1).

    Returns:
        Shape (...).
    """
    import numpy as np

    weights = np.asarray(weights, dtype=np.float64)
    up, down = (1.0 + values) / (1.0 + expected), (1.0 - values) / (1.0 - expected)
    middle, spread = _best_share(up, down, weights)
    low = np.maximum(0.0, middle - WINDOW * spread)[..., None]
    high = np.minimum(math.pi / 2, middle + WINDOW * spread)[..., None]
    nodes, parts = _quadrature()
    shares = np.sin(low + (high - low) * nodes)[..., None] ** 2
    # A bettor who staked everything on the wrong side has nothing; its logarithm must stay a number.
    factors = np.log(np.maximum(shares * up + (1.0 - shares) * down, SMALLEST))
    total = (factors @ weights[..., None])[..., 0]
    # Beta(1/2, 1/2) over shares is the uniform weight over these angles.
    highest = total.max(axis=-1, keepdims=True)
    summed = (np.exp(total - highest) * parts).sum(axis=-1)
    found: Floats = highest[..., 0] + np.log(summed * (high - low)[..., 0] * 2.0 / math.pi)
    return found


def betting_bounds(differences: Sequence[float], *, confidence: float) -> tuple[float, float]:
    """Bounds of the mean of differences in [-1, 1], valid at all counts together."""
    from scipy.optimize import brentq

    fortune = _fortune_of(differences)
    limit = -math.log1p(-confidence)
    value = math.fsum(differences) / len(differences)
    middle = min(max(value, -1.0 + EDGE), 1.0 - EDGE)

    def excess(expected: float) -> float:
        return fortune(expected) - limit

    # The fortune is convex in the mean and below 1 at the measured one, so each side has one end at most.
    lower = float(brentq(excess, -1.0 + EDGE, middle, xtol=1e-10)) if excess(-1.0 + EDGE) > 0.0 else -1.0
    upper = float(brentq(excess, middle, 1.0 - EDGE, xtol=1e-10)) if excess(1.0 - EDGE) > 0.0 else 1.0
    # Nine digits: the solver's last bits differ between machines, and a report's id is a hash of its numbers.
    return round(max(-1.0, min(lower, value)), 9), round(min(1.0, max(upper, value)), 9)


def betting_p_value(differences: Sequence[float], *, expected: float = 0.0) -> float:
    """A p-value that the mean difference is `expected`, valid at whatever count somebody stops.

    It is below 1 - confidence exactly where `expected` is outside `betting_bounds`.
    """
    return min(1.0, math.exp(-max(0.0, _fortune_of(differences)(expected))))


def texts_needed(differences: Sequence[float], margin: float, confidence: float) -> int | None:
    """How many more texts until the lower bound reaches `-margin`, if what was measured goes on as it is.

    Returns:
        None when no number of texts up to ten million would do.
    """
    count = len(differences)
    if math.fsum(differences) / count <= -margin:
        return None
    limit = -math.log1p(-confidence)
    fortune = _fortune_of(differences)

    def is_enough(factor: float) -> bool:
        return fortune(-margin, factor) >= limit

    if is_enough(1.0):
        return 0
    low, high = count, 2 * count
    while not is_enough(high / count):
        low, high = high, 2 * high
        if high > LARGEST_COUNT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle / count) else (middle, high)
    return high - count


def _fortune_of(differences: Sequence[float]) -> Callable[..., float]:
    import numpy as np

    counts = Counter(differences)
    values = np.array(sorted(counts), dtype=np.float64)
    weights = np.array([counts[value] for value in values.tolist()], dtype=np.float64)

    def fortune(expected: float, factor: float = 1.0) -> float:
        return float(log_fortune(values, weights * factor, expected))

    return fortune


def _best_share(up: Floats, down: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The angle whose share has the largest fortune, and how far from it fortunes are still worth adding.

    The logarithm of a fortune is concave in the share, so halving finds its top.
    """
    import numpy as np

    gain = up - down
    low = np.zeros(weights.shape[:-1])
    high = np.ones(weights.shape[:-1])
    for _ in range(HALVINGS):
        share = (low + high) / 2.0
        rising = (weights * gain / (share[..., None] * up + (1.0 - share[..., None]) * down)).sum(axis=-1) > 0.0
        low, high = np.where(rising, share, low), np.where(rising, high, share)
    share = (low + high) / 2.0
    slopes = gain / (share[..., None] * up + (1.0 - share[..., None]) * down)
    slope, bend = (weights * slopes).sum(axis=-1), (weights * slopes**2).sum(axis=-1)
    # From shares to angles: share = sin² angle. At an end of the range the slope makes the curvature, not the bend.
    curvature = bend * 4.0 * share * (1.0 - share) - slope * 2.0 * (1.0 - 2.0 * share)
    return np.arcsin(np.sqrt(share)), 1.0 / np.sqrt(np.maximum(curvature, 1e-6))


@functools.cache
def _quadrature() -> tuple[Floats, Floats]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    import numpy as np

    nodes, parts = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1.0) / 2.0, parts / 2.0
