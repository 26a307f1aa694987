"""Mixtures against the largest likelihood: exact maxima, brute force, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.mixtures import (
    paired_bounds,
    paired_largest,
    paired_log_evidence,
    unpaired_bounds,
    unpaired_difference,
    unpaired_largest,
    unpaired_log_evidence,
)

COUNTS = st.integers(0, 300)
ALPHA = 0.05


@settings(max_examples=200, deadline=None)
@given(COUNTS, COUNTS, COUNTS, st.floats(-0.99, 0.99))
def test_the_paired_maximum_is_the_largest_of_all_allowed_rates(
    wins: int, ties: int, losses: int, apart: float
) -> None:
    """The closed form against a search over two million rates: a maximum that is too small claims too much."""
    losing = np.linspace(max(0.0, -apart), (1.0 - apart) / 2.0, 200_001)
    even = np.maximum(1.0 - apart - 2.0 * losing, 0.0)
    searched = (xlogy(wins, losing + apart) + xlogy(losses, losing) + xlogy(ties, even)).max()

    found = float(paired_largest(wins, ties, losses, expected=apart))

    assert found >= searched - 1e-7
    assert found == pytest.approx(searched, abs=0.01 + 1e-4 * abs(searched))


@settings(max_examples=100, deadline=None)
@given(st.tuples(COUNTS, COUNTS), st.tuples(COUNTS, COUNTS), st.floats(-0.99, 0.99))
def test_the_unpaired_maximum_is_the_largest_of_all_allowed_means(
    right: tuple[int, int], wrong: tuple[int, int], apart: float
) -> None:
    """The same for a split in which each document has one answer."""
    counts = (right[0] + wrong[0], right[1] + wrong[1])
    mean = np.linspace(max(0.0, -apart), min(1.0, 1.0 - apart), 200_001)
    other = np.clip(mean + apart, 0.0, 1.0)
    searched = (
        xlogy(right[0], mean) + xlogy(wrong[0], 1.0 - mean) + xlogy(right[1], other) + xlogy(wrong[1], 1.0 - other)
    ).max()

    found = unpaired_largest(right, counts, expected=apart)

    assert found >= searched - 1e-7
    assert found == pytest.approx(searched, abs=0.01 + 1e-4 * abs(searched))


@pytest.mark.parametrize(("rates", "apart"), [((0.3, 0.2), 0.1), ((0.05, 0.05), 0.0), ((0.1, 0.4), -0.3)])
def test_the_paired_evidence_is_at_most_one_on_average(rates: tuple[float, float], apart: float) -> None:
    """Validity, summed over every possible outcome of twelve texts: no simulation, no luck."""
    texts, total = 12, 0.0
    for wins in range(texts + 1):
        for losses in range(texts + 1 - wins):
            ties = texts - wins - losses
            ways = math.comb(texts, wins) * math.comb(texts - wins, losses)
            chance = ways * rates[0] ** wins * rates[1] ** losses * (1.0 - sum(rates)) ** ties
            total += chance * math.exp(float(paired_log_evidence(wins, ties, losses, expected=apart)))

    assert 0.0 < total <= 1.0


def test_looking_after_every_text_is_wrong_no_oftener_than_stated() -> None:
    """Two thousand rollouts of a challenger that is no better, each looked at 400 times."""
    generator = np.random.default_rng(8)
    outcomes = generator.choice([1, 0, -1], p=[0.15, 0.7, 0.15], size=(2000, 400))
    wins, losses = (outcomes == 1).cumsum(axis=1), (outcomes == -1).cumsum(axis=1)
    ties = np.arange(1, 401) - wins - losses

    evidence = paired_log_evidence(wins, ties, losses, expected=0.0)

    assert (evidence.max(axis=1) >= math.log(1.0 / ALPHA)).mean() <= ALPHA


@settings(max_examples=50, deadline=None)
@given(COUNTS, COUNTS, COUNTS, st.sampled_from([0.8, 0.95]))
def test_paired_bounds_hold_the_value_and_turn_with_the_sides(
    wins: int, ties: int, losses: int, confidence: float
) -> None:
    """Which variant is called b is a name; the interval of the other way round is this one mirrored."""
    if not wins + ties + losses:
        return
    lower, upper = paired_bounds(wins, ties, losses, confidence=confidence)
    mirrored = paired_bounds(losses, ties, wins, confidence=confidence)

    assert -1.0 <= lower <= (wins - losses) / (wins + ties + losses) <= upper <= 1.0
    assert mirrored == pytest.approx((-upper, -lower), abs=1e-6)


def test_unpaired_bounds_are_wrong_no_oftener_than_stated() -> None:
    """A split into a fifth and the rest, looked at after every 25 documents, whole and partial scores."""
    generator = np.random.default_rng(4)
    wrong = 0
    for run in range(200):
        is_b = generator.random(500) < 0.2
        scores = generator.random(500) < np.where(is_b, 0.7, 0.6)
        given_scores = np.where(scores, 0.5 + 0.5 * (generator.random(500) < 0.5), 0.0) if run % 2 else scores
        truth = 0.1 * (0.75 if run % 2 else 1.0)
        for look in range(25, 501, 25):
            b, a = given_scores[:look][is_b[:look]], given_scores[:look][~is_b[:look]]
            if unpaired_log_evidence((float(a.sum()), float(b.sum())), (len(a), len(b)), expected=truth) >= math.log(
                1.0 / ALPHA
            ):
                wrong += 1
                break

    assert wrong / 200 <= ALPHA


def test_unpaired_bounds_narrow_around_the_difference() -> None:
    """And they are wider than paired ones, which is why documents are answered by both where that is affordable."""
    few = unpaired_bounds((60.0, 70.0), (100, 100), confidence=0.95)
    many = unpaired_bounds((6000.0, 7000.0), (10_000, 10_000), confidence=0.95)
    paired = paired_bounds(2000, 7000, 1000, confidence=0.95)

    assert few[0] < many[0] < 0.1 < many[1] < few[1]
    assert many[1] - many[0] > paired[1] - paired[0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=200),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=200),
)
def test_interval_and_p_value_of_a_split_decide_alike(a: list[float], b: list[float]) -> None:
    """As where both answered the same documents: one story."""
    interval, p_value = unpaired_difference(a, b, confidence=0.9)

    assert interval.lower <= interval.value <= interval.upper
    if abs(p_value - 0.1) > 1e-6:
        assert (p_value < 0.1) == (interval.lower > 0.0 or interval.upper < 0.0)


def test_a_variant_without_scores_cannot_be_compared() -> None:
    """A canary has answered nothing yet when it begins."""
    with pytest.raises(ContractBroken, match="one variant has none"):
        unpaired_difference([1.0], [], confidence=0.95)
