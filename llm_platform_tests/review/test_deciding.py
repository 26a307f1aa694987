"""Verdicts on texts that two variants answer differently decide between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.operations.evidence.deciding import LabelledSoFar, decided_so_far
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.records import ReviewQueue
from llm_platform.review.desk import Submitted
from llm_platform.review.items import ReviewDecision
from llm_platform.review.people import Person
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import Clock, filled, open_lake, team_with
from llm_platform_tests.team import NAME, Team

ADA = Person("ada", "reviewer")
DISAGREEMENTS = ReviewQueue(name="disagreements")
DOCUMENTS = 80
TRUTH = {str(number): "HAPPY" if number % 2 else "SAD" for number in range(DOCUMENTS)}
OTHER = {"HAPPY": "SAD", "SAD": "HAPPY"}
CLEAR = {key: OTHER[answer] if int(key) % 10 == 9 else answer for key, answer in TRUTH.items()}
VAGUE = {key: OTHER[answer] if int(key) % 3 == 0 else answer for key, answer in TRUTH.items()}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """Known answers come from verdicts alone, and no text is put into the training split."""
    texts = {key: f"DOC#{key}# ticket number {key} says something" for key in TRUTH}
    found = team_with(tmp_path, documents=texts)
    found.specification["references"]["train_share"] = 0.0
    found.write_specification()
    return found


@pytest.fixture
def lake(tmp_path: Path, team: Team) -> Iterator[Warehouse]:
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": CLEAR, "vague": VAGUE}, confidence=0.6)
        yield lake


def judge(lake: Warehouse, team: Team, *, most: int, tells: bool = True) -> list[str]:
    """Judge so many documents of the queue; returns them in the order in which they came."""
    desk, clock = ReviewDesk(lake, team.loaded, second_opinions=0.0, clock=lambda: 0.0), Clock()
    seen: list[str] = []
    while len(seen) < most and (opened := desk.open(ADA, DISAGREEMENTS)) is not None:
        item = opened.item
        letter = next((c.letter for c in item.choices if c.answer == TRUTH[item.document_id]), None)
        kind = ("choice" if letter else "correction") if tells else "cannot_tell"
        decision = ReviewDecision(kind, letter, TRUTH[item.document_id] if tells else None)  # type: ignore[arg-type]
        at = clock()
        desk.decide(
            ADA,
            Submitted(
                document_id=item.document_id, shown=item.shown, decision=decision, queue=DISAGREEMENTS,
                group_id=at.isoformat(), blind=True, tags=[], note="",
            ),
            at=at,
        )  # fmt: skip
        seen.append(item.document_id)
    return seen


def decided(lake: Warehouse, team: Team) -> LabelledSoFar:
    return decided_so_far(lake.application(NAME), team.loaded, ("vague", "clear"))


@pytest.mark.slow
def test_verdicts_on_differing_texts_say_how_all_texts_differ(lake: Warehouse, team: Team) -> None:
    """Eighty texts, and the labels of those on which the answers differ give the difference of all."""
    before = decided(lake, team)
    judged = judge(lake, team, most=DOCUMENTS)
    after = decided(lake, team).labelled

    differing = {key for key in TRUTH if CLEAR[key] != VAGUE[key]}
    assert differing <= set(judged)
    assert len(judged) < DOCUMENTS / 2
    assert before.labelled.labels == 0
    assert (after.answered, after.texts, after.differing) == (DOCUMENTS, DOCUMENTS, len(differing))
    assert after.labels == len(judged)
    assert after.difference is not None
    wins = sum(CLEAR[key] == TRUTH[key] for key in differing)
    assert after.difference.difference.value == pytest.approx((2 * wins - len(differing)) / DOCUMENTS)


def test_a_few_verdicts_say_something_of_the_texts_before_the_next_one(lake: Warehouse, team: Team) -> None:
    """What decides may be looked at any time; the labels come in the random order of the audit."""
    judged = judge(lake, team, most=6)
    few = decided(lake, team).labelled

    order = lake.application(NAME).annotations.texts_in_order()["document_id"].to_pylist()
    assert [key for key in order if key in judged] == judged
    assert few.labels == 6
    assert 6 < few.texts < DOCUMENTS
    assert "6 labels say how" in decided(lake, team).sentence


def test_a_text_that_nobody_can_judge_holds_nothing_up(lake: Warehouse, team: Team) -> None:
    """Cannot tell is an answer: neither is better."""
    judge(lake, team, most=4, tells=False)
    found = decided(lake, team).labelled

    assert found.labels == 4
    assert found.difference is not None
    assert found.difference.difference.value == 0.0


@pytest.mark.slow
def test_what_may_be_trained_on_decides_nothing(lake: Warehouse, team: Team) -> None:
    """A release that was tuned on a verdict would win on it; such texts are left out before they are labelled, too."""
    team.specification["references"]["train_share"] = 0.5
    team.write_specification()

    some = decided(lake, team).labelled.answered
    judge(lake, team, most=DOCUMENTS)

    assert 0 < some < DOCUMENTS
    assert decided(lake, team).labelled.answered == some
