"""Paired comparisons: textbook values, and error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.pairing import difference_interval, holm, is_partial, paired_bootstrap, pairs_needed
from llm_platform.evaluation.statistics import paired_difference


def test_holm_gives_the_values_of_a_worked_example() -> None:
    """0.01, 0.02, 0.03 and 0.04 become 0.04, 0.06, 0.06 and 0.06: each by its rank, and never falling."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    """A correction that helps somebody is none."""
    adjusted = holm(p_values)

    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(a <= 1.0 for a in adjusted)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_several_challengers_that_are_no_better_seldom_look_better() -> None:
    """Five comparisons at 0.05 find something in 23 of 100 rounds; corrected, in at most 5."""
    generator = np.random.default_rng(5)
    rounds = [generator.random(5).tolist() for _ in range(2000)]

    assert np.mean([min(p_values) < 0.05 for p_values in rounds]) > 0.2
    assert np.mean([min(holm(p_values)) < 0.05 for p_values in rounds]) < 0.06


def test_the_paired_bootstrap_is_close_to_the_t_test_where_that_is_right() -> None:
    """On many well-behaved differences both answer one question."""
    generator = np.random.default_rng(3)
    for shift in (0.0, 0.02, 0.05):
        values = np.clip(generator.normal(shift, 0.2, 300), -1, 1)
        p_value = float(ttest_1samp(values, 0.0).pvalue)

        assert paired_bootstrap(values.tolist()) == pytest.approx(p_value, abs=0.03)


def test_the_paired_bootstrap_finds_nothing_in_nothing_as_often_as_it_says() -> None:
    """The type-I error of a test at 0.05, on halves and wholes."""
    generator = np.random.default_rng(17)
    found = [
        paired_bootstrap(generator.choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=80).tolist(), seed=run, resamples=400)
        < 0.05
        for run in range(200)
    ]

    assert 0.01 <= np.mean(found) <= 0.10


def test_partial_differences_are_resampled_and_whole_ones_are_not() -> None:
    """Right against wrong has an exact theory; partial credit does not."""
    whole, partial = [1.0, 0.0, -1.0] * 20, [0.5, 0.0, 0.25] * 20

    assert difference_interval(whole, confidence=0.95) == paired_difference(whole, confidence=0.95)
    assert is_partial(partial)
    assert difference_interval(partial, confidence=0.95).lower > 0.15


def test_an_interval_that_holds_at_every_look_is_wider() -> None:
    """And it holds the value."""
    differences = [1.0] * 30 + [0.0] * 100 + [-1.0] * 10

    once = difference_interval(differences, confidence=0.95)
    always = difference_interval(differences, confidence=0.95, at_any_look=True)

    assert always.lower < once.lower <= once.value == always.value <= once.upper < always.upper


def test_pairs_needed_would_clear_the_margin() -> None:
    """The advice is checked against the interval that decides, at a sample of that size."""
    differences = [1.0] * 12 + [0.0] * 80 + [-1.0] * 8
    more = pairs_needed(differences, 0.03, 0.95)

    assert more is not None
    factor = (len(differences) + more) / len(differences)
    larger = [1.0] * round(12 * factor) + [0.0] * round(80 * factor) + [-1.0] * round(8 * factor)
    assert paired_difference(larger, confidence=0.95).lower == pytest.approx(-0.03, abs=0.006)
    assert pairs_needed([-1.0] * 10, 0.03, 0.95) is None


def test_no_texts_cannot_be_compared() -> None:
    """An average of nothing is not zero."""
    with pytest.raises(ContractBroken, match="no graded document"):
        paired_bootstrap([])
