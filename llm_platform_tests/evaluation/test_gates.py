"""Gates: what they decide, and whether the words help."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.evaluation.baseline import Baseline
from llm_platform.evaluation.gates import standing
from llm_platform.evaluation.report import Report
from llm_platform.records import Calibration, Gate, GateResult, Interval
from llm_platform_tests.evaluation.builders import World, application_of, release_of


def measured(right: int, wrong: int, *, minimum: float = 0.6, valid: float | None = None, **changes: Any) -> Report:
    """A report on balanced labels with so many right and wrong answers."""
    accuracy = Gate(minimum=minimum, reason="Below it, editors read every review again.")
    valid_rate = None if valid is None else Gate(minimum=valid, reason="Readers accept few gaps.")
    world = World(
        application=application_of(evaluation=Evaluation(gates=Gates(accuracy=accuracy, valid_rate=valid_rate)))
    )
    for reference, other in (("HAPPY", "SAD"), ("SAD", "HAPPY")):
        world.add(right // 2, answer=reference, reference=reference).add(wrong // 2, answer=other, reference=reference)
    return world.report(**changes)


def gate(report: Report, name: str) -> GateResult:
    """The result of one gate."""
    return next(result for result in report.gates if result.name == name)


def test_a_clear_pass_is_approved() -> None:
    """The lower bound is over the minimum, and the reason says so with the numbers and the minimum's own reason."""
    report = measured(150, 50)

    assert report.passed
    assert report.standing == "approved"
    assert gate(report, "accuracy").reason == (
        "accuracy 0.750 [0.686, 0.805] on 200 documents: the lower bound clears the minimum 0.600. "
        "Why 0.600: Below it, editors read every review again."
    )
    assert gate(report, "accuracy").next_step is None


def test_a_clear_failure_is_refused_and_told_what_to_try() -> None:
    """Nobody should spend a day on labels when the whole interval is below the minimum."""
    report = measured(102, 98)

    result = gate(report, "accuracy")
    assert not report.passed
    assert report.standing == "refused"
    assert result.reason.startswith(
        "accuracy 0.510 [0.441, 0.578] on 200 documents: below the minimum 0.600, and so is the upper bound."
    )
    assert result.next_step is not None
    assert "Try another prompt on the training split" in result.next_step
    assert result.next_step.endswith("more labels will not help.")
    assert "cannot be told from always answering 'HAPPY' (0.500)" in result.next_step


def test_what_cannot_be_told_yet_is_undecided_and_asks_for_labels() -> None:
    """The value reaches the minimum, the lower bound does not: the number of labels is the answer."""
    report = measured(130, 70)

    result = gate(report, "accuracy")
    assert not report.passed
    assert report.standing == "undecided"
    assert "cannot tell yet, because the lower bound is below the minimum 0.600" in result.reason
    assert result.next_step is not None
    assert result.next_step.startswith("Label 169 more documents for even chances")


def test_a_hopeless_wish_for_labels_is_not_given_as_advice() -> None:
    """0.604 against 0.60 takes tens of thousands of labels; a better prompt is cheaper."""
    result = gate(measured(302, 198), "accuracy")

    assert result.next_step is not None
    assert result.next_step.startswith("Improve the prompt: at the measured rate")


def test_a_value_just_below_the_minimum_is_not_printed_as_equal() -> None:
    """`0.600 is below the minimum 0.600` is the kind of sentence that loses people's trust."""
    found = gate(measured(1196, 804), "accuracy")
    close = found.model_copy(update={"lower": 0.5997})

    assert found.reason.startswith("accuracy 0.598 [0.576, 0.619] on 2,000 documents: below the minimum 0.600")
    assert close.comparison == "lower bound 0.5997, minimum 0.600"
    constant = close.model_copy(update={"minimum": 19 / 37})  # what always giving one answer reaches
    assert constant.comparison == "lower bound 0.600, minimum 0.514"
    assert close.model_copy(update={"minimum": 0.9995}).comparison == "lower bound 0.600, minimum 0.9995"


@pytest.mark.parametrize(
    ("minimum", "passed", "reason"),
    [
        pytest.param(
            0.5, False, "A minimum of 0.500 for accuracy is what always answering 'HAPPY' reaches.", id="equal"
        ),
        pytest.param(
            0.4,
            False,
            "A minimum of 0.400 for accuracy is less than what always answering 'HAPPY' reaches (0.500).",
            id="under",
        ),
        pytest.param(
            0.55,
            True,
            "The minimum 0.550 for accuracy is above what always answering 'HAPPY' reaches (0.500).",
            id="above",
        ),
    ],
)
def test_a_minimum_that_a_constant_answer_reaches_is_a_failed_gate(minimum: float, passed: bool, reason: str) -> None:
    """Lowering a minimum until it passes is a defect, and this is where it shows."""
    report = measured(180, 20, minimum=minimum)

    result = gate(report, "minimum_above_constant_answer")
    assert (result.passed, result.reason) == (passed, reason)
    assert report.passed is passed
    assert report.standing == ("approved" if passed else "refused")


def test_no_evaluated_document_does_not_pass(world: World) -> None:
    """Silence is not evidence; the gate exists and fails, so that no check can fall open."""
    report = world.add(20, split="train").report()

    result = gate(report, "accuracy")
    assert not report.passed
    assert report.accuracy is None
    assert result.reason == "No document was evaluated: no document has a reference in the evaluation split."
    assert result.minimum == 0.6


def test_unanswered_evaluation_documents_do_not_pass(world: World) -> None:
    """A run that stopped half way has answered the documents it happened to reach."""
    report = world.add(60).add(20, reference="SAD", answer="SAD").add(7, status=None).report()

    result = gate(report, "evaluation_answered")
    assert not report.passed
    assert result.reason == "7 evaluation documents have no completion, so the accuracy of the rest may flatter."


def test_an_application_without_minimums_approves_nothing() -> None:
    """All of no gates would be vacuously true."""
    report = World(application=application_of(evaluation=Evaluation(gates=Gates()))).add(50).report()

    assert not report.passed
    assert report.gates[0].reason == "application.yaml states no minimum, so nothing can be approved."


def test_the_valid_rate_of_few_answers_cannot_show_a_high_minimum() -> None:
    """200 of 200 has a lower bound of 0.981: the reason must say that the count is short, not that answers are bad."""
    report = measured(200, 0, valid=0.99)

    result = gate(report, "valid_rate")
    assert report.standing == "undecided"
    assert "valid_rate 1.000 [0.981, 1.000] on 200 documents: cannot tell yet" in result.reason
    assert result.next_step == (
        "Too few answers to show 0.990: even with every answer valid it takes 381 different documents. "
        "Answer 181 more outside the training split."
    )


def test_a_minimum_of_one_for_the_valid_rate_says_that_it_cannot_be_shown() -> None:
    """No finite number of answers proves that none ever fails."""
    assert gate(measured(200, 0, valid=1.0), "valid_rate").next_step == (
        "No number of answers shows a rate of 1.00: state a minimum below it."
    )


def test_a_low_valid_rate_is_refused() -> None:
    """Here the answers are at fault, and the advice is another."""
    accuracy = Gate(minimum=0.55, reason="Better than a coin by enough.")
    gates = Gates(accuracy=accuracy, valid_rate=Gate(minimum=0.95, reason="Readers accept few gaps."))
    world = World(application=application_of(evaluation=Evaluation(gates=gates)))
    world.add(80).add(80, answer="SAD", reference="SAD").add(40, status="invalid")

    report = world.report()

    assert report.standing == "refused"
    assert "state the form" in str(gate(report, "valid_rate").next_step).lower()
    assert gate(report, "accuracy").passed


@pytest.mark.parametrize(
    ("decision", "calibrated", "expected"),
    [
        pytest.param("text", False, "set 'decision: logprobs' with 'calibrate: true', or ask so", id="text"),
        pytest.param("logprobs", False, "set 'calibrate: true', or ask so", id="logprobs"),
        pytest.param("logprobs", True, "says: ask so", id="calibrated-already"),
    ],
)
def test_a_one_sided_variant_is_told_so(world: World, decision: str, calibrated: bool, expected: str) -> None:
    """A small model that says HAPPY to everything is no matter of luck; the cure depends on the release."""
    calibration = Calibration(labels=("HAPPY", "SAD"), scale=1.0, bias=(0.0, 0.0), examples=9, references_version="r1")
    release = release_of().model_copy(update={"decision": decision, "calibration": calibration if calibrated else None})

    report = world.add(95).add(5, answer="SAD", reference="SAD").add(100, reference="SAD").report(release=release)

    step = str(gate(report, "accuracy").next_step)
    assert "0.975 of its answers are 'HAPPY'" in step
    assert expected in step


def test_a_baseline_that_does_better_is_named() -> None:
    """A language model that loses to word counts should be sent home."""
    interval = Interval(value=0.84, lower=0.79, upper=0.88, confidence=0.95, count=200)
    baseline = Baseline(name="TF-IDF + logistic regression", accuracy=interval, trained=300, evaluated=200)

    step = str(gate(measured(110, 90, baseline=baseline), "accuracy").next_step)

    assert "TF-IDF + logistic regression reaches 0.840 without a language model." in step


def test_standing_is_never_approved_without_gates() -> None:
    """Nothing decided is not a decision."""
    assert standing([]) == "refused"
