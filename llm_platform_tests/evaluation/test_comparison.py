"""Paired comparison of two variants on the same texts."""

from __future__ import annotations

import pytest

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.comparison import Comparison, JudgedVariant, compare
from llm_platform.evaluation.pairing import Rules
from llm_platform_tests.evaluation.builders import World, release_of

Row = tuple[str | None, float | None]
RULES = Rules(0.95)


def compared(
    rows: list[tuple[Row, Row]],
    *,
    splits: list[str] | None = None,
    texts: list[str] | None = None,
    rules: Rules = RULES,
) -> Comparison:
    """Compare variants `a` and `b`, each row an (answer, confidence) of both to a document whose reference is HAPPY."""
    judged = []
    for side, name in enumerate("ab"):
        world, release = World(), release_of(name)
        for index, row in enumerate(rows):
            answer, confidence = row[side]
            changes = {} if texts is None else {"fingerprint": texts[index]}
            world.add(answer=answer, confidence=confidence, split=splits[index] if splits else "evaluation", **changes)
        report = world.report(release=release, variant=name)
        judged.append(JudgedVariant(report, world.answers, world.scores(release)))
    return compare(*judged, references=world.references, rules=rules)


RIGHT: Row = ("HAPPY", 0.9)
WRONG: Row = ("SAD", 0.9)


def test_counts_and_difference() -> None:
    """The four counts are the whole evidence of a paired test."""
    rows = [(RIGHT, RIGHT)] * 40 + [(RIGHT, WRONG)] * 5 + [(WRONG, RIGHT)] * 25 + [(WRONG, WRONG)] * 30

    result = compared(rows)

    assert (result.both_right, result.only_a, result.only_b, result.both_wrong) == (40, 5, 25, 30)
    assert result.difference.value == pytest.approx(0.2)
    assert 0.0 < result.difference.lower < 0.2 < result.difference.upper
    assert result.p_value == pytest.approx(0.000274, abs=1e-6)
    assert result.summary == "b is right more often than a on the same 100 texts (p < 0.001)."


def test_a_small_difference_is_not_claimed() -> None:
    """Three against one is a coin."""
    result = compared([(RIGHT, RIGHT)] * 16 + [(RIGHT, WRONG)] + [(WRONG, RIGHT)] * 3)

    assert result.summary == "No difference between a and b can be shown on 20 texts (p = 0.417)."


def test_training_documents_are_not_compared() -> None:
    """The split is one, for reports and for comparisons."""
    rows = [(RIGHT, RIGHT)] * 10 + [(WRONG, RIGHT)] * 30

    result = compared(rows, splits=["evaluation"] * 10 + ["train"] * 30)

    assert (result.both_right, result.only_b) == (10, 0)


def test_a_text_counts_once() -> None:
    """Thirty copies of one disagreement are one disagreement."""
    rows = [(RIGHT, RIGHT)] * 10 + [(WRONG, RIGHT)] * 30

    result = compared(rows, texts=[*map(str, range(10)), *["copied"] * 30])

    assert (result.both_right, result.only_b) == (10, 1)
    assert len(result.disagreements) == 1


def test_the_surest_disagreements_come_first_and_take_turns() -> None:
    """An expert who reads ten of them should learn about both variants."""
    rows = [
        (("HAPPY", 0.6), ("SAD", 0.6)),
        (("HAPPY", 0.9), ("SAD", 0.9)),
        (("SAD", 0.7), ("HAPPY", 0.7)),
        (("SAD", 0.8), ("HAPPY", 0.8)),
        (("HAPPY", 0.99), ("HAPPY", 0.99)),
    ]

    assert compared(rows).disagreements == ("d00001", "d00003", "d00000", "d00002")


def test_variants_that_never_disagree_compare_without_disagreements() -> None:
    """No disagreement is a result, also where no variant states a confidence."""
    result = compared([(("HAPPY", None), ("HAPPY", None))] * 10)

    assert result.disagreements == ()
    assert result.p_value == 1.0
    assert result.difference.lower < 0.0 < result.difference.upper


def test_reports_with_different_yardsticks_are_not_compared(world: World) -> None:
    """A difference between two evaluations is no difference between two variants."""
    world.add(10)
    first = JudgedVariant(world.report(), world.answers, world.scores())
    world.add(1)
    second = JudgedVariant(world.report(), world.answers, world.scores())

    with pytest.raises(ContractBroken, match="Materialize both reports"):
        compare(first, second, references=world.references, rules=RULES)
