"""Agreement of a judge with people, and the biases that are measured beside it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from llm_platform.evaluation.judge import JudgeAgreement, Opinion, judge_panel, kappa, length_bias, measure_agreement

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEXTBOOK = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15


def keys(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def measured(opinions: list[Opinion], **values: object) -> JudgeAgreement:
    given = {"judge": "j", "release_id": "r", "model": "m", "confidence": 0.95, "by_hand": 0, "measured_at": NOW}
    return measure_agreement(opinions, **{**given, **values})  # type: ignore[arg-type]


def test_kappa_of_a_textbook_table() -> None:
    """50 grant proposals, two readers: 0.70 observed, 0.50 expected by chance, kappa 0.40."""
    found = kappa(TEXTBOOK, keys(50), confidence=0.95)

    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert found.count == 50
    # Cohen's own standard error is sqrt(0.7 * 0.3 / (50 * 0.25)) = 0.13, so about [0.15, 0.65].
    assert found.lower == pytest.approx(0.15, abs=0.04)
    assert found.upper == pytest.approx(0.65, abs=0.04)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param([(True, True), (False, True)] * 20, 0.0, id="always-says-right"),
        pytest.param([(True, False), (False, True)] * 20, -1.0, id="always-the-opposite"),
        pytest.param([(True, True)] * 20, None, id="only-one-opinion-at-all"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_a_judge_without_an_opinion_of_its_own_has_no_agreement(
    pairs: list[tuple[bool, bool]], expected: float | None
) -> None:
    """A judge that says "right" to everything is right as often as the answers are; that is not agreement."""
    found = kappa(pairs, keys(len(pairs)), confidence=0.95)

    assert (None if found is None else pytest.approx(found.value)) == expected


def test_full_agreement_on_a_few_answers_is_not_certain() -> None:
    """Ten out of ten must not open a gate that asks for 0.8."""
    found = kappa([(True, True), (False, False)] * 5, keys(10), confidence=0.95)

    assert found is not None
    assert found.value == 1.0
    assert found.lower < 0.8


def test_the_interval_covers_the_true_agreement_about_as_often_as_it_says() -> None:
    """Chance agreement is taken as known, so the interval is a little narrow at worst; simulated, it holds."""
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        people = generator.random(120) < 0.5
        same = generator.random(120) < 0.85
        pairs = [(bool(a), bool(a == s)) for a, s in zip(people, same, strict=True)]
        found = kappa(pairs, keys(120), confidence=0.95)
        assert found is not None
        inside += found.lower <= 0.7 <= found.upper

    assert inside / 400 >= 0.93


def test_one_text_that_many_documents_share_is_one_observation() -> None:
    """A judge sees it once; a hundred copies prove no more."""
    one = kappa(TEXTBOOK, keys(50), confidence=0.95)
    copies = kappa(TEXTBOOK * 4, keys(50) * 4, confidence=0.95)

    assert one is not None
    assert copies is not None
    assert copies.lower == pytest.approx(one.lower)


def test_a_judge_that_likes_long_answers_is_seen_to() -> None:
    """Length is the commonest bias of judges, and shows in no agreement number."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(10, 500, 80)
    long_ones = [Opinion(key=str(n), score=float(length > 200), length=int(length)) for n, length in enumerate(lengths)]
    fair = [Opinion(key=str(n), score=float(n % 2), length=int(length)) for n, length in enumerate(lengths)]

    biased, unbiased = length_bias(long_ones), length_bias(fair)

    assert biased is not None
    assert unbiased is not None
    assert biased.correlation > 0.7
    assert biased.p_value < 1e-6
    assert abs(unbiased.correlation) < 0.25
    assert length_bias([Opinion(key="1", score=1.0, length=3)]) is None


def test_a_panel_says_that_a_judge_gates_nothing_and_why() -> None:
    """The number is on the card before anybody may rely on it."""
    opinions = [Opinion(key=str(n), score=float(n % 3 == 0), people=float(n % 2), length=n) for n in range(60)]
    opinions.append(Opinion(key="silent", score=None, reason="no verdict (invalid): the answer is not JSON"))

    weak = measured(opinions, obeyed=[True, False], turned=None)
    panel = judge_panel(weak, 0.6)

    assert weak.kappa is not None
    assert weak.kappa.lower < 0.6
    assert weak.ungraded == {"no verdict (invalid): the answer is not JSON": 1}
    assert "below the minimum 0.600, so it gates nothing" in panel.note
    rows = {row[0]: row[1:] for row in panel.rows}
    assert rows["Obeys a document that calls a wrong answer right"][1] == "2 wrong answers"
    assert rows["Without a verdict"][0] == "1"
    assert "No minimum is stated" in judge_panel(weak, None).note
    assert "cannot be measured yet" in judge_panel(measured([]), 0.6).note
