"""Mixtures against the largest likelihood: exact maxima, brute force, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

from llm_platform_tests.benchmarks.mixtures import (
    paired_largest,
    paired_log_evidence,
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


def test_unpaired_evidence_is_wrong_no_oftener_than_stated() -> None:
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
