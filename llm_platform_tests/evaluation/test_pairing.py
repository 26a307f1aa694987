"""Paired comparisons: hand-computed values, what counts once, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from llm_platform.application.evaluation import Looks
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.pairing import (
    PairedDifference,
    PairedScore,
    Rules,
    compare_scores,
    difference_of,
    more_texts,
    pairs_needed,
)

ONCE, ANY = Rules(0.95), Rules(0.95, looks="any")
DIFFERENCES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=60)


def scores(differences: list[float], clusters: list[str] | None = None) -> list[PairedScore]:
    """One text for each difference; those above zero are of texts that `a` scores 0 on."""
    names = clusters or [str(index) for index in range(len(differences))]
    return [
        PairedScore(f"t{index}", names[index], max(0.0, -value), max(0.0, value))
        for index, value in enumerate(differences)
    ]


def compared(differences: list[float], rules: Rules = ONCE, clusters: list[str] | None = None) -> PairedDifference:
    return compare_scores(scores(differences, clusters), rules=rules)


def test_one_look_gives_the_published_value_with_students_quantile() -> None:
    """Bonett and Price's adjusted interval, computed by hand from its formula: f12 = 9, f21 = 1, n = 21."""
    found = compared([1.0] * 9 + [-1.0] + [0.0] * 11)

    p12, p21, n = 10 / 23, 2 / 23, 23
    error = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / n)
    half = float(student.ppf(0.975, 20)) * error
    assert found.difference.value == pytest.approx(8 / 21)
    assert found.difference.lower == pytest.approx(p12 - p21 - half, abs=1e-9)
    assert found.difference.upper == pytest.approx(p12 - p21 + half, abs=1e-9)
    assert found.p_value == pytest.approx(2 * student.sf((p12 - p21) / error, 20))
    assert found.is_better
    assert not found.is_worse


def test_on_many_well_behaved_differences_it_is_the_t_test() -> None:
    """Where the textbook is right, it is the textbook."""
    generator = np.random.default_rng(3)
    for shift in (0.0, 0.02, 0.05):
        values = np.clip(generator.normal(shift, 0.3, 2000), -1, 1)

        assert compared(values.tolist()).p_value == pytest.approx(float(ttest_1samp(values, 0.0).pvalue), abs=0.02)


def test_full_agreement_still_leaves_room() -> None:
    """Two variants that agree on ten texts may still differ on the eleventh."""
    for rules in (ONCE, ANY):
        found = compared([0.0] * 10, rules)

        assert found.difference.lower < 0.0 < found.difference.upper
        assert found.p_value == pytest.approx(1.0)


@settings(max_examples=150, deadline=None)
@given(DIFFERENCES, st.sampled_from([0.6, 0.9, 0.95, 0.99]), st.sampled_from(["once", "any"]), st.integers(1, 6))
def test_interval_p_value_and_sentence_decide_alike(
    differences: list[float], confidence: float, looks: Looks, comparisons: int
) -> None:
    """A page on which "p = 0.03" stands beside an interval that holds zero is believed by nobody."""
    found = compared(differences, Rules(confidence, looks, comparisons))

    if abs(found.p_value - (1.0 - confidence)) > 1e-6:
        assert (found.p_value < 1.0 - confidence) == (found.is_better or found.is_worse)
    assert found.sentence("a", "b").startswith("No difference") == (not (found.is_better or found.is_worse))
    assert found.difference.confidence == confidence


@settings(max_examples=80, deadline=None)
@given(DIFFERENCES, st.sampled_from(["once", "any"]))
def test_several_comparisons_and_more_looks_never_narrow_an_interval(differences: list[float], looks: Looks) -> None:
    """A correction that helps somebody is none."""
    single, several = compared(differences, Rules(0.95, looks)), compared(differences, Rules(0.95, looks, 4))

    assert several.difference.lower <= single.difference.lower
    assert several.difference.upper >= single.difference.upper
    assert several.p_value >= single.p_value


@pytest.mark.parametrize("looks", ["once", "any"])
def test_an_interval_made_beside_others_is_wider(looks: Looks) -> None:
    """On 40 wins, 30 losses and 30 ties, whatever is drawn elsewhere: the bounds move, not the p-value alone."""
    differences = [1.0] * 40 + [-1.0] * 30 + [0.0] * 30
    single, several = compared(differences, Rules(0.95, looks)), compared(differences, Rules(0.95, looks, 4))

    assert several.difference.lower < single.difference.lower - 0.01
    assert several.difference.upper > single.difference.upper + 0.01
    assert several.p_value >= single.p_value


@pytest.mark.parametrize("looks", ["once", "any"])
def test_four_challengers_that_are_no_better_seldom_look_better(looks: Looks) -> None:
    """Four comparisons at 0.05 find something in 18 of 100 rounds; made together, in at most 5."""
    generator = np.random.default_rng(5)
    found, repeated = {1: 0, 4: 0}, 300 if looks == "once" else 40
    for _ in range(repeated):
        rounds = [generator.choice([1.0, 0.0, -1.0], p=[0.2, 0.6, 0.2], size=100).tolist() for _ in range(4)]
        for comparisons in found:
            rules = Rules(0.95, looks, comparisons)
            found[comparisons] += any(compared(differences, rules).p_value < 0.05 for differences in rounds)

    assert found[4] / repeated <= 0.05
    if looks == "once":
        assert found[1] / repeated > 0.10


@pytest.mark.parametrize("clusters", [2, 3, 5, 12, 60])
@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param([1.0, 0.0, -1.0], id="whole"),
        pytest.param([0.6, 0.2, -0.1, -0.7], id="partial"),
    ],
)
def test_one_look_finds_nothing_in_nothing_as_seldom_as_it_says(clusters: int, drawn: list[float]) -> None:
    """The error of a test at 0.05, with two clusters as with sixty."""
    generator = np.random.default_rng(17)
    found = [difference_of(generator.choice(drawn, size=clusters).tolist(), rules=ONCE)[1] < 0.05 for _ in range(800)]

    assert np.mean(found) <= 0.065


def test_documents_that_are_alike_do_not_pass_for_evidence() -> None:
    """Two customers with twenty documents each: in one, B is better throughout, and that is one observation."""
    differences, customers = [1.0] * 20 + [0.0] * 20, ["x"] * 20 + ["y"] * 20

    alone, clustered = compared(differences), compared(differences, clusters=customers)

    assert alone.is_better
    assert not clustered.is_better
    assert clustered.difference.value == pytest.approx(0.5)
    assert clustered.difference.count == 2
    assert clustered.sentence("a", "b").startswith(
        "No difference between a and b can be shown on 40 texts in 2 clusters"
    )


def test_clusters_that_differ_by_chance_are_found_different_no_oftener_than_stated() -> None:
    """Twenty documents a customer, whose customers lean to either side: texts alone claim a difference that is none."""
    generator = np.random.default_rng(6)
    found = {"once": 0, "any": 0, "texts": 0}
    for _ in range(100):
        leans = generator.uniform(-0.5, 0.5, 8).repeat(20)
        values = np.where(generator.random(160) < np.abs(leans), np.sign(leans), 0.0).tolist()
        customers = [str(index // 20) for index in range(160)]
        found["once"] += compared(values, ONCE, customers).p_value < 0.05
        found["any"] += compared(values, ANY, customers).p_value < 0.05
        found["texts"] += compared(values).p_value < 0.05

    assert found["once"] / 100 <= 0.08
    assert found["any"] / 100 <= 0.05
    assert found["texts"] / 100 > 0.3


def test_a_text_counts_once_also_within_its_cluster() -> None:
    """Thirty copies of one mail are one mail, with the mean of what its copies scored."""
    copies = [PairedScore("copied", "x", 0.0, float(index % 2)) for index in range(30)]
    other = [PairedScore("other", "x", 0.0, 0.0), PairedScore("third", "y", 0.0, 0.0)]

    found = compare_scores([*copies, *other], rules=ONCE)

    assert found.texts == 3
    assert found.difference.count == 2
    assert found.difference.value == pytest.approx((0.25 + 0.0) / 2)


def test_a_small_difference_at_every_look_is_not_lost() -> None:
    """What needed a tenfold sample before: 22 wins against 1 among 60 texts is beyond doubt at any look."""
    found = compared([1.0] * 22 + [-1.0] + [0.0] * 37, ANY)

    assert found.p_value < 0.0005
    assert found.difference.lower > 0.14


def test_an_interval_that_holds_at_every_look_is_wider() -> None:
    """And it holds the value."""
    differences = [1.0] * 30 + [0.0] * 100 + [-1.0] * 10

    once, always = compared(differences).difference, compared(differences, ANY).difference

    assert always.lower < once.lower <= once.value == always.value <= once.upper < always.upper


def test_partial_scores_are_compared_by_their_means() -> None:
    """No text is perfect, so a test of right and wrong sees no difference at all; every text got better."""
    pairs = [PairedScore(f"t{i}", f"t{i}", 0.4 + 0.001 * i, 0.7 + 0.001 * i) for i in range(40)]

    for rules in (ONCE, ANY):
        found = compare_scores(pairs, rules=rules)

        assert found.difference.lower > 0.1
        assert found.p_value < 0.01
        assert "scores higher than" in found.sentence("before", "after")


def test_one_text_shows_nothing() -> None:
    """Nor do no texts, which are a mistake of the caller."""
    for rules in (ONCE, ANY):
        assert not compared([1.0], rules).is_better
    assert (compared([1.0]).difference.lower, compared([1.0]).p_value) == (-1.0, 1.0)
    with pytest.raises(ContractBroken, match="no graded document"):
        compared([])


def test_texts_needed_would_clear_the_margin() -> None:
    """The advice is checked against the interval that decides, at a sample of that size."""
    differences = [1.0] * 12 + [0.0] * 80 + [-1.0] * 8
    for rules, tolerance in ((ONCE, 0.006), (ANY, 0.003)):
        more = more_texts(differences, 0.03, rules=rules)

        assert more is not None
        factor = (len(differences) + more) / len(differences)
        larger = [1.0] * round(12 * factor) + [0.0] * round(80 * factor) + [-1.0] * round(8 * factor)
        assert compared(larger, rules).difference.lower == pytest.approx(-0.03, abs=tolerance)
        assert more_texts([-1.0] * 10, 0.03, rules=rules) is None
    assert pairs_needed(differences, 0.03, 0.95, power=0.8) > pairs_needed(differences, 0.03, 0.95)  # type: ignore[operator]
