"""A release beside something that has no report of its own."""

from __future__ import annotations

from llm_platform.evaluation.pairing import paired_p_value
from llm_platform.evaluation.pairs import pair
from llm_platform.evaluation.statistics import mcnemar


def test_partial_grades_are_not_tested_as_right_or_wrong() -> None:
    """No text is perfect, so McNemar's test sees no difference at all; every text got better."""
    theirs = {f"t{number}": 0.4 + 0.001 * number for number in range(40)}
    ours = {text: grade + 0.3 for text, grade in theirs.items()}

    found = pair(ours, theirs, name="before", confidence=0.95)

    assert found is not None
    assert found.difference.lower > 0.25
    assert found.p_value < 0.01


def test_whole_grades_get_the_exact_test() -> None:
    """Textbook: ten texts that only one has right against two that only the other has."""
    pairs = [(0.0, 1.0)] * 10 + [(1.0, 0.0)] * 2 + [(1.0, 1.0)] * 30

    assert paired_p_value(pairs) == mcnemar(2, 10)
