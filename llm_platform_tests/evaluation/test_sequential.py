"""Intervals that hold at every look: against hand-computed values, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from llm_platform.evaluation.sequential import labels_needed_at_any_look, sequence_bounds
from llm_platform.evaluation.statistics import wilson_bounds

LOOKS = range(20, 401, 20)
RUNS = 300


def mixture_ratio(mean: float, successes: int, count: int) -> float:
    """The mixture's likelihood ratio by numerical integration over its Beta(1/2, 1/2) weight.

    The substitution q = sin² t turns the weight into a constant, so that the integral has no singular ends.
    """
    failures = count - successes
    weighted = quad(
        lambda t: (2 / math.pi) * math.sin(t) ** (2 * successes) * math.cos(t) ** (2 * failures), 0, math.pi / 2
    )
    return float(weighted[0]) / (mean**successes * (1 - mean) ** failures)


@pytest.mark.parametrize(("successes", "count"), [(15, 20), (30, 40), (3, 50), (20, 20), (0, 20)])
def test_bounds_are_where_the_integrated_likelihood_ratio_reaches_twenty(successes: int, count: int) -> None:
    """The definition itself: a mean is left out when the evidence against it is 1 / 0.05."""
    lower, upper = sequence_bounds(successes / count, count, confidence=0.95)

    for bound in (lower, upper):
        if 0.0 < bound < 1.0:
            assert mixture_ratio(bound, successes, count) == pytest.approx(20.0, rel=1e-4)


def ever_wrong(bounds: object, *, mean: float, partial: bool = False) -> float:
    """Share of runs in which the lower bound was above the true mean at any of twenty looks."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(RUNS):
        scores = generator.random(LOOKS[-1]) < mean
        # Halves and wholes with the same mean: partial credit.
        values = np.where(scores, 0.5 + 0.5 * (generator.random(LOOKS[-1]) < 0.5), 0.0) if partial else scores
        truth = mean * 0.75 if partial else mean
        sums = values.cumsum()
        wrong += any(bounds(float(sums[n - 1] / n), n, confidence=0.95)[0] > truth for n in LOOKS)  # type: ignore[operator]
    return wrong / RUNS


def test_looking_twenty_times_does_not_inflate_the_error() -> None:
    """The reason for the sequence: with a fixed-size interval the same habit is wrong several times as often."""
    assert ever_wrong(sequence_bounds, mean=0.6) <= 0.05
    assert ever_wrong(sequence_bounds, mean=0.6, partial=True) <= 0.05
    assert ever_wrong(wilson_bounds, mean=0.6) > 0.08


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(1, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_sequence_holds_the_value_and_is_wider_than_one_look(successes: int, count: int, confidence: float) -> None:
    """Holding at every look costs width; it must never come out as a gain."""
    value = min(successes, count) / count

    lower, upper = sequence_bounds(value, count, confidence=confidence)
    once = wilson_bounds(value, count, confidence=confidence)

    assert 0.0 <= lower <= value <= upper <= 1.0
    assert upper - lower >= once[1] - once[0] - 1e-6


@pytest.mark.parametrize(("value", "minimum"), [(0.75, 0.6), (0.65, 0.6), (1.0, 0.98)])
def test_labels_needed_is_the_smallest_number_that_clears(value: float, minimum: float) -> None:
    """People plan days of labelling by this number."""
    more = labels_needed_at_any_look(value, minimum, 0.95, count=50)

    assert more is not None
    assert sequence_bounds(value, 50 + more, confidence=0.95)[0] >= minimum - 1e-6
    assert sequence_bounds(value, 50 + more - 1, confidence=0.95)[0] < minimum


def test_no_number_of_labels_lifts_a_value_that_is_not_above_the_minimum() -> None:
    """The answer is then a better prompt."""
    assert labels_needed_at_any_look(0.6, 0.6, 0.95) is None
    assert labels_needed_at_any_look(0.9, 0.0, 0.95) == 0
