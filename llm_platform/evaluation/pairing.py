"""Two variants on the same documents: paired bootstrap, correction for several comparisons, how many pairs decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.sequential import sequence_bounds
from llm_platform.evaluation.statistics import (
    BOOTSTRAP_NEEDS,
    CELLS_AT_ONCE,
    RESAMPLES,
    SEED,
    bootstrap_bounds,
    mcnemar,
    paired_difference,
    quantile,
)
from llm_platform.records import Interval


def difference_interval(differences: Sequence[float], *, confidence: float, at_any_look: bool = False) -> Interval:
    """Mean of paired differences in [-1, 1], one per text, with its interval.

    Whole differences (right against wrong) get the interval of Bonett and Price. Partial ones get a percentile
    bootstrap, unless fewer than `BOOTSTRAP_NEEDS` texts differ. At any look it is the confidence sequence of the
    differences, moved to [0, 1] and back; that is wide, since it does not profit from texts on which both agree.

    Raises:
        ContractBroken: there is no text.
    """
    plain = paired_difference(differences, confidence=confidence)
    if at_any_look:
        bounds = sequence_bounds((plain.value + 1.0) / 2.0, len(differences), confidence=confidence)
        lower, upper = (2.0 * bound - 1.0 for bound in bounds)
    elif is_partial(differences):
        lower, upper = _bootstrapped(differences, confidence=confidence)
    else:
        return plain
    return plain.model_copy(update={"lower": min(lower, plain.value), "upper": max(upper, plain.value)})


def is_partial(differences: Sequence[float]) -> bool:
    """Some difference is a fraction, and enough texts differ for a bootstrap to vary."""
    differing = [value for value in differences if value != 0.0]
    return len(differing) >= BOOTSTRAP_NEEDS and any(abs(value) != 1.0 for value in differing)


def paired_p_value(pairs: Sequence[tuple[float, float]]) -> float:
    """Two-sided p-value that two variants score the same texts equally well.

    Exact McNemar test for right against wrong; a paired bootstrap where scores are partial, of which McNemar's test
    would see only the perfect ones.
    """
    differences = [b - a for a, b in pairs]
    if is_partial(differences):
        return paired_bootstrap(differences)
    rights = [(a == 1.0, b == 1.0) for a, b in pairs]
    return mcnemar(rights.count((True, False)), rights.count((False, True)))


def paired_bootstrap(differences: Sequence[float], *, seed: int = SEED, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value that the mean of paired differences is zero, by resampling centred differences.

    With 2,000 resamples it is never below 0.0005.

    Raises:
        ContractBroken: there is no text.

    Source: Efron and Tibshirani 1993, section 16.4.
    """
    import numpy as np

    if not differences:
        raise ContractBroken("Cannot compare two variants over no texts: they share no graded document.")
    values = np.asarray(differences, dtype=np.float64)
    observed, centred = abs(values.mean()), values - values.mean()
    generator = np.random.default_rng(seed)
    batch = max(1, CELLS_AT_ONCE // len(centred))
    sizes = [min(batch, resamples - start) for start in range(0, resamples, batch)]
    places = (generator.integers(len(centred), size=(size, len(centred))) for size in sizes)
    drawn = np.concatenate([centred[drawn_once].mean(axis=1) for drawn_once in places])
    # A hair of slack: sums in another order differ in their last bits.
    return float((1 + (np.abs(drawn) >= observed - 1e-12).sum()) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several comparisons: below 0.05 with at most a 5 in 100 chance of any false one.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def pairs_needed(differences: Sequence[float], margin: float, confidence: float, *, power: float = 0.5) -> int | None:
    """How many more texts until the lower bound of the mean difference could clear `-margin`.

    It takes the measured mean and spread for true, and the normal approximation for good enough.

    Returns:
        None when no number of texts would do, because the measured difference is not above `-margin`.
    """
    count = len(differences)
    value = math.fsum(differences) / count
    if value <= -margin:
        return None
    # One imagined text on either side, as in the interval: no disagreement so far is not none ever.
    variance = (math.fsum(d * d for d in differences) + 2.0) / (count + 2) - (math.fsum(differences) / (count + 2)) ** 2
    distance = (quantile(confidence) + NormalDist().inv_cdf(power)) * math.sqrt(variance) / (value + margin)
    return max(0, math.ceil(distance**2 - count))


def _bootstrapped(differences: Sequence[float], *, confidence: float) -> tuple[float, float]:
    import numpy as np

    columns = np.column_stack([np.asarray(differences, dtype=np.float64), np.ones(len(differences))])
    names = [str(index) for index in range(len(differences))]
    return bootstrap_bounds(columns, names, lambda sums: sums[:, 0] / sums[:, 1], confidence=confidence)
