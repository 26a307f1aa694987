"""A release beside something that has no report of its own."""

from __future__ import annotations

import pytest

from llm_platform.evaluation.clusters import Method
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.pairs import pair

METHOD, RULES = Method(0.95), Rules(0.95)


def test_releases_are_compared_on_the_texts_that_both_have_a_grade_for() -> None:
    """A difference over other texts would compare documents, not releases."""
    ours = {f"t{number}": float(number % 4 > 0) for number in range(40)}
    theirs = {f"t{number}": float(number % 2 > 0) for number in range(20, 80)}

    found = pair(ours, theirs, name="other", clusters={}, rules=RULES, method=METHOD)
    none = pair({"a": 1.0}, {"b": 1.0}, name="other", clusters={}, rules=RULES, method=METHOD)

    assert found is not None
    assert (found.difference.count, found.texts) == (20, 20)
    assert found.ours.value == pytest.approx(0.75)
    assert found.theirs.value == pytest.approx(0.5)
    assert found.difference.value == pytest.approx(0.25)
    assert none is None


def test_texts_of_one_cluster_count_once() -> None:
    """Twenty near-equal mails that an adapter has learned are one mail."""
    ours = {f"t{number}": 1.0 for number in range(24)}
    theirs = {f"t{number}": float(number >= 20) for number in range(24)}
    alike = {f"t{number}": "one mail" for number in range(20)}

    apart = pair(ours, theirs, name="base", clusters={}, rules=RULES, method=METHOD)
    together = pair(ours, theirs, name="base", clusters=alike, rules=RULES, method=METHOD)

    assert apart is not None
    assert together is not None
    assert apart.is_better
    assert not together.is_better
    assert (together.difference.count, together.texts) == (5, 24)
    assert together.theirs.lower < apart.theirs.lower
