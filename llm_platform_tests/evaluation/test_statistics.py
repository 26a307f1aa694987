"""Intervals, tests and sample sizes against textbooks, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.statistics import (
    bootstrap_bounds,
    effective_count,
    labels_needed,
    mean_score,
    share,
    wilson_bounds,
)

CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@pytest.mark.parametrize(
    ("right", "count", "lower", "upper"),
    [
        pytest.param(81, 263, 0.2553, 0.3662, id="newcombe-1998-table-1"),
        pytest.param(15, 148, 0.0624, 0.1605, id="newcombe-1998-small-share"),
        pytest.param(0, 20, 0.0, 0.1611, id="newcombe-1998-none"),
        pytest.param(1, 29, 0.0061, 0.1718, id="newcombe-1998-one"),
        pytest.param(200, 200, 0.9812, 1.0, id="all-of-200"),
    ],
)
def test_wilson_gives_the_published_values(right: int, count: int, lower: float, upper: float) -> None:
    """A gate stands on this formula; the values are Newcombe's, Statistics in Medicine 17 (1998), table I."""
    bounds = wilson_bounds(right / count, count, confidence=0.95)

    assert bounds == (pytest.approx(lower, abs=5e-5), pytest.approx(upper, abs=5e-5))


@given(data=st.data(), count=st.integers(1, 5000), confidence=CONFIDENCES)
def test_wilson_agrees_with_scipy_and_holds_the_value(data: st.DataObject, count: int, confidence: float) -> None:
    """Whatever the counts, ours is the interval that scipy computes, in [0, 1] and around the measured share."""
    right = data.draw(st.integers(0, count))

    lower, upper = wilson_bounds(right / count, count, confidence=confidence)

    expected = binomtest(right, count).proportion_ci(confidence, method="wilson")
    assert (lower, upper) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))
    assert 0.0 <= lower <= right / count <= upper <= 1.0


@given(value=st.floats(0, 1), count=st.integers(1, 1000), more=st.integers(1, 1000), confidence=CONFIDENCES)
def test_more_documents_never_widen_an_interval(value: float, count: int, more: int, confidence: float) -> None:
    """Labelling more must bring a decision nearer."""
    few = wilson_bounds(value, count, confidence=confidence)
    many = wilson_bounds(value, count + more, confidence=confidence)

    assert many[0] >= few[0] - 1e-12
    assert many[1] <= few[1] + 1e-12


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_effective_count_lies_between_one_and_the_number_of_texts(clusters: list[int]) -> None:
    """Repeating a text must never count as more evidence than distinct texts would."""
    names = [str(cluster) for cluster in clusters]

    count = effective_count(names)

    assert 1.0 - 1e-9 <= count <= len(set(names)) + 1e-9


def test_repeating_every_document_changes_no_interval() -> None:
    """A source that holds each text twice has not been measured twice as well."""
    flags, texts = [True] * 30 + [False] * 20, [str(index) for index in range(50)]

    once = share(flags, texts, confidence=0.95)
    twice = share(flags * 2, texts * 2, confidence=0.95)

    assert (twice.lower, twice.upper) == (pytest.approx(once.lower), pytest.approx(once.upper))
    assert twice.count == 100


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    """With 400 independent scores the percentile interval is the textbook mean ± 1.96 standard errors."""
    scores = np.random.default_rng(5).beta(4, 2, 400)
    texts = [str(index) for index in range(400)]

    interval = mean_score(scores.tolist(), texts, confidence=0.95)

    half = 1.96 * scores.std(ddof=1) / math.sqrt(400)
    assert interval.value == pytest.approx(scores.mean())
    assert interval.lower == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert interval.upper == pytest.approx(scores.mean() + half, abs=0.1 * half)


def test_bootstrap_draws_whole_texts() -> None:
    """Four copies of each text must not halve the interval."""
    scores = np.random.default_rng(6).uniform(0, 1, 100).tolist()
    texts = [str(index) for index in range(100)]

    once = mean_score(scores, texts, confidence=0.95)
    copied = mean_score(scores * 4, texts * 4, confidence=0.95)

    assert (copied.lower, copied.upper) == (pytest.approx(once.lower), pytest.approx(once.upper))


def test_bootstrap_is_seeded() -> None:
    """A report's id is a hash of its content: equal inputs must give equal bounds, in any order of runs."""
    columns, texts = np.arange(60.0).reshape(30, 2), [str(index) for index in range(30)]

    first, second, other = (
        bootstrap_bounds(columns, texts, lambda sums: sums[:, 0], confidence=0.9, seed=seed) for seed in (1, 1, 2)
    )

    assert first == second
    assert first != other


def test_bounds_cover_the_truth_as_often_as_they_say() -> None:
    """Clustered partial scores, where a wrong resampling unit would cover far too rarely."""
    generator = np.random.default_rng(11)
    texts = [str(index // 3) for index in range(240)]
    covered = 0
    for _ in range(120):
        scores = np.repeat(np.round(generator.beta(3, 1.5, 80) * 4) / 4, 3)
        interval = mean_score(scores.tolist(), texts, confidence=0.9)
        covered += interval.lower <= 0.6667 <= interval.upper

    assert 0.8 <= covered / 120 <= 0.97


def test_no_mistake_among_few_documents_is_not_certainty() -> None:
    """A bootstrap of thirty perfect scores says [1, 1]; nobody should believe it."""
    scores = [1.0] * 29 + [0.75]

    interval = mean_score(scores, [str(index) for index in range(30)], confidence=0.95)

    assert interval.lower < 0.95
    assert interval.upper < 1.0


@given(value=st.floats(0.02, 1.0), minimum=st.floats(0.01, 0.99), count=st.integers(0, 300), confidence=CONFIDENCES)
@settings(max_examples=200)
def test_labels_needed_is_the_smallest_number_that_clears(
    value: float, minimum: float, count: int, confidence: float
) -> None:
    """Telling someone to label 80 documents when 79 or 800 are needed wastes days of an expert."""
    more = labels_needed(value, minimum, confidence, count=count)

    if more is None:
        assert value <= minimum
        return
    if more > 10**7:
        return
    assert wilson_bounds(value, max(count + more, 1), confidence=confidence)[0] >= minimum - 1e-6
    if more > 1:
        assert wilson_bounds(value, count + more - 1, confidence=confidence)[0] < minimum


def test_labels_needed_at_a_higher_power_asks_for_more() -> None:
    """An even chance is not a plan; four in five needs the textbook's second quantile."""
    even = labels_needed(0.75, 0.6, 0.95)
    likely = labels_needed(0.75, 0.6, 0.95, power=0.8)

    # (1.96 * sqrt(0.24) / 0.15)², and (1.96 * sqrt(0.24) + 0.8416 * sqrt(0.1875))² / 0.15².
    assert (even, likely) == (41, 78)


def test_labels_needed_knows_when_no_number_will_do() -> None:
    """A rate under the minimum, or a minimum of 1, is never shown by more labels."""
    assert labels_needed(0.6, 0.6, 0.95) is None
    assert labels_needed(0.5, 0.6, 0.95) is None
    assert labels_needed(1.0, 1.0, 0.95) is None


def test_labels_needed_for_a_perfect_rate_says_how_many_show_it() -> None:
    """200 of 200 has a lower bound of 0.981, so a minimum of 0.99 asks for 381 perfect answers."""
    assert labels_needed(1.0, 0.99, 0.95) == 381
    assert labels_needed(1.0, 0.981, 0.95, count=200) == 0


def test_an_interval_over_nothing_is_refused() -> None:
    """No rows must be a plain message and not a division by zero."""
    with pytest.raises(ContractBroken, match="no documents"):
        share([], [], confidence=0.95)
    with pytest.raises(ContractBroken, match="2 values for 1 fingerprints"):
        share([True, False], ["a"], confidence=0.95)
