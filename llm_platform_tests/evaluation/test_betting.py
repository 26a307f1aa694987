"""Any-look bounds by betting: the definition itself, exact error rates, and rates by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from llm_platform.evaluation.betting import betting_bounds, betting_p_value, log_fortune, texts_needed

WHOLE = np.array([-1.0, 0.0, 1.0])
ALPHA = 0.05
DIFFERENCES = st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60)


def averaged(values: np.ndarray, weights: np.ndarray, expected: float) -> float:
    """The fortune by brute force: 200,000 shares, each played for itself."""
    shares = np.sin((np.arange(200_000) + 0.5) / 200_000 * math.pi / 2) ** 2
    total = np.zeros_like(shares)
    for value, weight in zip(values, weights, strict=True):
        total += weight * np.log(shares * (1 + value) / (1 + expected) + (1 - shares) * (1 - value) / (1 - expected))
    return float(total.max() + math.log(np.mean(np.exp(total - total.max()))))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((30, 900, 70), 0.0),
        ((1500, 27_000, 1500), -0.01),
        ((0, 300, 0), -0.02),
        ((0, 0, 9), 0.5),
        ((40_000, 10, 60_000), 0.21),
        ((3, 1, 0), -0.99),
    ],
)
def test_the_fortune_is_the_average_over_all_shares(weights: tuple[int, ...], expected: float) -> None:
    """It is computed from 48 shares around the best one, and has to be the average of few texts and of many."""
    given_weights = np.array(weights, dtype=np.float64)

    assert float(log_fortune(WHOLE, given_weights, expected)) == pytest.approx(
        averaged(WHOLE, given_weights, expected), abs=1e-6
    )


def test_against_no_difference_it_is_robbins_mixture_over_the_texts_that_differ() -> None:
    """A closed form where there is one, and a tie costs nothing."""
    closed = float(betaln(30.5, 70.5) - betaln(0.5, 0.5)) + 100 * math.log(2)

    for ties in (0, 50, 100_000):
        assert float(log_fortune(WHOLE, np.array([30.0, ties, 70.0]), 0.0)) == pytest.approx(closed, abs=1e-9)


@pytest.mark.parametrize(
    "chances",
    [
        pytest.param({1.0: 0.3, 0.0: 0.5, -1.0: 0.2}, id="whole"),
        pytest.param({0.5: 0.2, 0.25: 0.4, -1.0: 0.1, 0.0: 0.3}, id="partial"),
        pytest.param({-0.1: 0.9, 1.0: 0.1}, id="rare-and-large"),
    ],
)
def test_the_fortune_is_one_on_average_if_the_claim_is_true(chances: dict[float, float]) -> None:
    """Validity, summed over all sequences of six texts: no simulation, no luck."""
    values = np.array(list(chances))
    truth = sum(value * chance for value, chance in chances.items())

    average = 0.0
    for sequence in itertools.product(range(len(values)), repeat=6):
        weights = np.bincount(sequence, minlength=len(values)).astype(float)
        chance = math.prod(list(chances.values())[place] for place in sequence)
        average += chance * math.exp(float(log_fortune(values, weights, truth)))

    assert average == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_looking_after_every_text_promotes_falsely_no_oftener_than_stated(margin: float) -> None:
    """Rollouts of a challenger that is exactly as much worse as is just not allowed, looked at after every label."""
    generator = np.random.default_rng(8)
    outcomes = generator.choice([1, 0, -1], p=[0.15 - margin / 2, 0.7, 0.15 + margin / 2], size=(500, 300))
    wins, losses = (outcomes == 1).cumsum(axis=1), (outcomes == -1).cumsum(axis=1)
    weights = np.stack([losses, np.arange(1, 301) - wins - losses, wins], axis=-1).astype(float)

    fortune = np.array([log_fortune(WHOLE, rollout, -margin) for rollout in weights])

    crossed = fortune >= math.log(1.0 / ALPHA)
    promoted = crossed & (wins - losses > -margin * np.arange(1, 301))
    assert crossed.any(axis=1).mean() <= ALPHA
    assert promoted.any(axis=1).mean() <= ALPHA


def test_a_method_for_one_look_promotes_falsely_under_the_same_habit() -> None:
    """The reason for all this: the same 500 rollouts, decided by a z-test after every text."""
    generator = np.random.default_rng(8)
    outcomes = generator.choice([1, 0, -1], p=[0.15, 0.7, 0.15], size=(500, 300))
    sums, squares = outcomes.cumsum(axis=1), (outcomes**2).cumsum(axis=1)

    crossed = np.abs(sums[:, 20:]) > 1.96 * np.sqrt(np.maximum(squares[:, 20:], 1))

    assert crossed.any(axis=1).mean() > 3 * ALPHA


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES, st.sampled_from([0.8, 0.95, 0.99]), st.randoms())
def test_bounds_hold_the_mean_do_not_depend_on_order_and_turn_with_the_sides(
    differences: list[float], confidence: float, random: object
) -> None:
    """Documents have no order that anybody could keep, and which variant is called b is a name."""
    shuffled = differences.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    lower, upper = betting_bounds(differences, confidence=confidence)
    mirrored = betting_bounds([-value for value in differences], confidence=confidence)

    assert -1.0 <= lower <= np.mean(differences) + 1e-9
    assert np.mean(differences) - 1e-9 <= upper <= 1.0
    assert betting_bounds(shuffled, confidence=confidence) == pytest.approx((lower, upper), abs=1e-8)
    assert mirrored == pytest.approx((-upper, -lower), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES, st.sampled_from([0.8, 0.95, 0.99]), st.sampled_from([-0.3, 0.0, 0.1]))
def test_the_p_value_and_the_bounds_decide_alike(differences: list[float], confidence: float, claim: float) -> None:
    """Two numbers beside each other must not tell two stories."""
    lower, upper = betting_bounds(differences, confidence=confidence)
    p_value = betting_p_value(differences, expected=claim)

    if abs(p_value - (1.0 - confidence)) > 1e-6:
        assert (p_value < 1.0 - confidence) == (claim < lower or claim > upper)


@pytest.mark.parametrize(("wins", "losses", "margin"), [(7, 3, 0.0), (12, 8, 0.03), (0, 0, 0.02)])
def test_texts_needed_is_the_smallest_number_that_reaches_the_margin(wins: int, losses: int, margin: float) -> None:
    """People plan days of labelling by this number."""
    differences = [1.0] * wins + [-1.0] * losses + [0.0] * (100 - wins - losses)
    more = texts_needed(differences, margin, 0.95)

    assert more is not None
    weights = np.array([losses, 100 - wins - losses, wins], dtype=float)
    for added, enough in ((more, True), (more - 1, False)):
        fortune = float(log_fortune(WHOLE, weights * (100 + added) / 100, -margin))
        assert (fortune >= math.log(20)) is enough
    assert texts_needed([-1.0] * 10, 0.03, 0.95) is None
    assert texts_needed([1.0] * 100, 0.0, 0.95) == 0
