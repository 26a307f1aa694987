"""The test of a split's shares, at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.sample_ratio import StageCounts, log_evidence, sample_ratio

SHARES = {"champion": 0.95, "challenger": 0.05}


def counted(challenger: int, documents: int) -> StageCounts:
    return StageCounts(shares=SHARES, counts={"champion": documents - challenger, "challenger": challenger})


def test_the_evidence_against_a_true_split_is_one_on_average() -> None:
    """Validity, summed over every possible count of thirty documents."""
    average = sum(float(binom.pmf(k, 30, 0.05)) * math.exp(log_evidence(counted(k, 30))) for k in range(31))

    assert average == pytest.approx(1.0, abs=1e-9)


def test_a_healthy_split_is_seldom_ever_doubted_and_a_daily_chi_square_doubts_it() -> None:
    """Two hundred days of five hundred documents: the reason that this is not a chi-square test."""
    generator = np.random.default_rng(2)
    doubted = {"every look": 0, "chi-square": 0}
    for _ in range(100):
        challengers = generator.binomial(500, 0.05, size=200).cumsum()
        documents = 500 * np.arange(1, 201)
        looks = list(zip(challengers.tolist(), documents.tolist(), strict=True))
        doubted["every look"] += any(not sample_ratio([counted(k, n)], alpha=0.05).is_as_stated for k, n in looks)
        doubted["chi-square"] += any(chisquare([n - k, k], [0.95 * n, 0.05 * n]).pvalue < 0.05 for k, n in looks)

    assert doubted["every look"] <= 5
    assert doubted["chi-square"] > 25


def test_a_split_that_loses_every_fifth_document_is_found() -> None:
    """A challenger that is slow and whose timeouts nobody counts: 4 of 100 where 5 were stated."""
    assert sample_ratio([counted(20, 500)]).is_as_stated
    assert not sample_ratio([counted(800, 20_000)]).is_as_stated


def test_a_share_that_grows_is_counted_stage_by_stage() -> None:
    """5 % and then 25 %, each as stated, would look wrong against either share alone."""
    second = StageCounts(shares={"champion": 0.75, "challenger": 0.25}, counts={"champion": 3000, "challenger": 1000})

    assert sample_ratio([counted(200, 4000), second]).is_as_stated
    assert not sample_ratio([counted(1200, 8000)]).is_as_stated


def test_a_variant_without_a_share_that_answered_is_a_fault_at_once() -> None:
    """A withdrawn challenger that still answers needs no statistics."""
    stage = StageCounts(shares={"champion": 1.0, "challenger": 0.0}, counts={"champion": 10, "challenger": 1})

    assert sample_ratio([stage]).p_value == 0.0


def test_nothing_counted_doubts_nothing() -> None:
    """The first tick of a rollout has no documents."""
    assert sample_ratio([]).p_value == 1.0
    assert sample_ratio([counted(0, 0)]).p_value == 1.0


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        pytest.param({"a": 0.5, "b": 0.4}, {"a": 1}, id="shares-below-one"),
        pytest.param({"a": 1.5, "b": -0.5}, {"a": 1}, id="negative-share"),
        pytest.param({"a": 0.5, "b": 0.5}, {"c": 1}, id="variant-without-share"),
        pytest.param({"a": 0.5, "b": 0.5}, {"a": -1}, id="negative-count"),
    ],
)
def test_counts_that_cannot_be_are_refused(shares: dict[str, float], counts: dict[str, int]) -> None:
    """A test over the wrong table would say that all is well."""
    with pytest.raises(ContractBroken):
        sample_ratio([StageCounts(shares=shares, counts=counts)])
