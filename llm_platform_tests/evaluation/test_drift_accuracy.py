"""The draw of live documents, and what it lets one say about all of them."""

from __future__ import annotations

import numpy as np

from llm_platform.application.monitoring import Labelling
from llm_platform.evaluation.drift_accuracy import FreshAccuracy, draw, fresh_accuracy

RULES = Labelling(audit_share=0.05, low_confidence_below=0.6, low_confidence_share=0.4, drifted_share=0.8)


def measured(scores: list[float], probabilities: list[float], *, minimum: float = 0.7) -> FreshAccuracy:
    counts = {"considered": 1000, "drawn": len(scores)}
    return fresh_accuracy(scores, probabilities, **counts, confidence=0.95, minimum=minimum)


def test_every_text_has_a_chance_and_the_doubtful_ones_a_better_one() -> None:
    """Without a chance for the confident answers nothing could be said about them."""
    sure = draw("a", 0.99, drifted=False, rules=RULES)
    unsure = draw("a", 0.5, drifted=False, rules=RULES)
    strange = draw("a", 0.99, drifted=True, rules=RULES)

    assert (sure.probability, unsure.probability, strange.probability) == (0.05, 0.4, 0.8)
    assert (sure.reason, unsure.reason, strange.reason) == ("audit", "low confidence", "drifted")


def test_a_draw_is_repeatable_and_has_its_stated_chance() -> None:
    """A second look at the same documents must not draw others, and the stored probability has to be true."""
    draws = [draw(f"text {number}", 0.5, drifted=False, rules=RULES).selected for number in range(5000)]

    assert draws == [draw(f"text {number}", 0.5, drifted=False, rules=RULES).selected for number in range(5000)]
    assert abs(np.mean(draws) - 0.4) < 0.03


def test_a_text_drawn_for_audit_is_drawn_whatever_else_is_said_of_it() -> None:
    """One number decides, so a larger probability only adds texts."""
    audited = {n for n in range(3000) if draw(f"{n}", 0.99, drifted=False, rules=RULES).selected}
    doubted = {n for n in range(3000) if draw(f"{n}", 0.5, drifted=False, rules=RULES).selected}

    assert audited < doubted


def test_weights_undo_that_doubtful_texts_are_drawn_more_often() -> None:
    """Live answers are 0.9 right where sure and 0.4 where unsure; the plain mean of the labels would be far below."""
    generator = np.random.default_rng(3)
    values, plain = [], []
    for turn in range(60):
        rows = []
        for number in range(1500):
            unsure = number % 4 == 0
            drawn = draw(f"{turn}:{number}", 0.5 if unsure else 0.9, drifted=False, rules=RULES)
            if drawn.selected:
                rows.append((float(generator.random() < (0.4 if unsure else 0.9)), drawn.probability))
        scores, probabilities = [list(column) for column in zip(*rows, strict=True)]
        values.append(measured(scores, probabilities).value)
        plain.append(np.mean(scores))

    assert abs(np.mean([value for value in values if value is not None]) - 0.775) < 0.015
    assert np.mean(plain) < 0.65


def test_accuracy_under_its_minimum_is_found() -> None:
    """Half of 200 audited answers wrong, against a minimum of 0.7: the upper bound itself is below."""
    found = measured([1.0, 0.0] * 100, [0.05] * 200)

    assert found.standing == "below its minimum"
    assert found.upper < 0.7


def test_few_labels_cannot_tell() -> None:
    """Three wrong answers of four are not yet an alert."""
    found = measured([1.0, 0.0, 0.0, 0.0], [0.05] * 4)

    assert found.standing == "cannot tell"
    assert measured([], []).value is None


def test_looking_after_every_label_raises_no_false_alarm() -> None:
    """The check runs after each run; a plain interval would cry wolf in a third of such histories."""
    generator = np.random.default_rng(4)
    alarms = 0
    for _ in range(100):
        scores = (generator.random(200) < 0.72).astype(float).tolist()
        alarms += any(
            measured(scores[:count], [0.05] * count).standing == "below its minimum" for count in range(10, 201, 10)
        )

    assert alarms <= 5
