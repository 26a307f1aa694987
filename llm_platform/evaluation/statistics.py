"""Intervals of shares and means, and sample sizes.

Every interval here is two-sided at `confidence`. A gate compares the lower bound of that two-sided interval with its
minimum, so at 0.95 a release that sits exactly on the minimum is let through in about 2.5 of 100 cases, not 5.

Documents that share one text share one answer, so they are one observation and not several: the functions take
`clusters` (fingerprints), one per document.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from llm_platform.errors import ContractBroken
from llm_platform.records import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20_240_917
BOOTSTRAP_NEEDS = 10
"""Fewest texts on either side of perfect for a bootstrap: with fewer, resampling sees too few mistakes to vary them."""
CELLS_AT_ONCE = 2_000_000


def quantile(confidence: float) -> float:
    """Normal quantile of a two-sided interval, 1.96 at 0.95."""
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)


def wilson_bounds(value: float, count: float, *, confidence: float) -> tuple[float, float]:
    """Wilson score interval of a share measured on `count` independent observations.

    `count` may be fractional (an effective sample size). For scores anywhere in [0, 1] the interval is conservative,
    since no such score varies more than a right-or-wrong one with the same mean.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    z = quantile(confidence)
    weight = z * z / count
    centre = (value + weight / 2.0) / (1.0 + weight)
    half = z / (1.0 + weight) * math.sqrt(max(value * (1.0 - value), 0.0) / count + weight / (4.0 * count))
    # The bounds touch the value at 0 and 1; rounding must not push them across it.
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))


def effective_count(clusters: Sequence[str]) -> float:
    """Number of independent documents that carry as much evidence as these, which share answers within a cluster.

    `(sum of sizes)² / (sum of squared sizes)`: the number of documents when all texts differ, 1 when all are the same.

    Source: Kish 1965, with an intraclass correlation of 1.
    """
    sizes = Counter(clusters).values()
    return sum(sizes) ** 2 / sum(size * size for size in sizes)


def share(flags: Sequence[bool] | Sequence[float], clusters: Sequence[str], *, confidence: float) -> Interval:
    """Share of documents for which `flags` holds, with a Wilson interval on the effective count.

    Raises:
        ContractBroken: there is no document, or not one cluster per flag.
    """
    _require_rows(flags, clusters)
    value = math.fsum(flags) / len(flags)
    lower, upper = wilson_bounds(value, effective_count(clusters), confidence=confidence)
    return Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=len(flags))


def mean_score(scores: Sequence[float], clusters: Sequence[str], *, confidence: float) -> Interval:
    """Mean of scores in [0, 1] with its interval.

    Right-or-wrong scores get Wilson's interval. Partial scores get a percentile bootstrap over texts, unless fewer than
    `BOOTSTRAP_NEEDS` texts are imperfect (or perfect at zero): there the bootstrap would claim certainty, and Wilson's
    interval, which is wider than needed for partial scores, is the honest one.

    Raises:
        ContractBroken: there is no document, or not one cluster per score.
    """
    import numpy as np

    _require_rows(scores, clusters)
    imperfect = {cluster for score, cluster in zip(scores, clusters, strict=True) if score < 1.0}
    nonzero = {cluster for score, cluster in zip(scores, clusters, strict=True) if score > 0.0}
    is_binary = all(score in (0.0, 1.0) for score in scores)
    if is_binary or min(len(imperfect), len(nonzero)) < BOOTSTRAP_NEEDS:
        return share(scores, clusters, confidence=confidence)
    columns = np.column_stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))])
    lower, upper = bootstrap_bounds(columns, clusters, lambda sums: sums[:, 0] / sums[:, 1], confidence=confidence)
    value = math.fsum(scores) / len(scores)
    return Interval(
        value=value, lower=min(lower, value), upper=max(upper, value), confidence=confidence, count=len(scores)
    )


def bootstrap_bounds(
    columns: NDArray[np.float64],
    clusters: Sequence[str],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    confidence: float,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile interval of a statistic of column sums, resampling whole clusters.

    Args:
        columns: What each document adds to each sum, shape (documents, sums).
        clusters: One fingerprint per document; documents of one cluster are drawn together.
        statistic: From sums, shape (RESAMPLES, sums), to values, shape (RESAMPLES,); NaN where it is undefined.
        seed: Equal seeds give equal bounds.

    Source: Efron and Tibshirani 1993, section 13.3; cluster bootstrap of Davison and Hinkley 1997, section 3.8.
    """
    import numpy as np

    _, positions = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    groups = int(positions.max()) + 1
    sums = np.zeros((groups, columns.shape[1]))
    np.add.at(sums, positions, columns)
    generator = np.random.default_rng(seed)
    batch = max(1, min(RESAMPLES, CELLS_AT_ONCE // groups))
    values: list[NDArray[np.float64]] = []
    for start in range(0, RESAMPLES, batch):
        drawn = generator.integers(groups, size=(min(batch, RESAMPLES - start), groups))
        weights = np.array([np.bincount(row, minlength=groups) for row in drawn], dtype=np.float64)
        values.append(statistic(weights @ sums))
    tail = (1.0 - confidence) / 2.0
    lower, upper = np.nanquantile(np.concatenate(values), [tail, 1.0 - tail])
    # The order in which threads add decides the last bits, and a report's id is a hash of its numbers.
    return round(float(lower), 9), round(float(upper), 9)


def labels_needed(
    value: float, minimum: float, confidence: float, *, count: float = 0.0, power: float = 0.5
) -> int | None:
    """How many more labelled documents until the lower bound could clear `minimum`, if `value` is the true rate.

    Wilson's lower bound reaches the minimum exactly when the score test does, which gives a closed form. At the
    default power the answer is where the measured rate itself would clear, an even chance; 0.8 asks for four chances
    in five.

    Args:
        value: The measured rate.
        minimum: What the lower bound has to reach.
        confidence: Of the two-sided interval whose lower bound is compared.
        count: Labelled documents there are, as an effective count.
        power: Chance of clearing, if `value` is true, in [0.5, 1).

    Returns:
        0 when there are enough; None when no number of labels would do, because the rate is not above the minimum.
    """
    if minimum <= 0.0:
        return 0
    if value <= minimum or minimum >= 1.0:
        return None
    chance = NormalDist().inv_cdf(power) * math.sqrt(value * (1.0 - value))
    needed = ((quantile(confidence) * math.sqrt(minimum * (1.0 - minimum)) + chance) / (value - minimum)) ** 2
    # A hair of slack: the closed form and the bound round differently.
    return max(0, math.ceil(needed - count - 1e-9))


def _require_rows(values: Sequence[object], clusters: Sequence[str]) -> None:
    if not values:
        raise ContractBroken("Cannot give an interval over no documents: check that some are graded first.")
    if len(values) != len(clusters):
        raise ContractBroken(f"Got {len(values)} values for {len(clusters)} fingerprints: give one for each document.")
