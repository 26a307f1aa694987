"""Gates on macro-F1, kappa, one label, one field, and metrics of a team's own: each by its interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_platform.application.evaluation import Evaluation, Gates, LabelGates, MetricGate
from llm_platform.application.output import OutputField
from llm_platform.evaluation.gate_names import claim, gate_names
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.statistics import wilson_bounds
from llm_platform.records import Gate, GateResult
from llm_platform_tests.evaluation.builders import MINIMUM, World, application_of

REASON = "Readers of the table notice it."


def floor(minimum: float) -> Gate:
    return Gate(minimum=minimum, reason=REASON)


def world_of(task: str = "classify", *, folder: Path = Path(), **evaluation: Any) -> World:
    gates = Gates(**evaluation.pop("gates"))
    return World(application=application_of(task, evaluation=Evaluation(gates=gates, **evaluation), folder=folder))


def gate(report: Report, name: str) -> GateResult:
    return next(result for result in report.gates if result.name == name)


def imbalanced(world: World) -> World:
    """Right for 0.93 of the documents, and for 4 of 14 of the label that matters."""
    world.add(180).add(4, answer="SAD").add(4, answer="SAD", reference="SAD")
    return world.add(10, answer="HAPPY", reference="SAD")


def test_a_gate_on_one_label_refuses_what_is_right_on_average() -> None:
    """0.93 overall says nothing of the few documents that the table is read for."""
    recall = {"SAD": LabelGates(recall=floor(0.6), precision=floor(0.1))}

    report = imbalanced(world_of(gates={"accuracy": MINIMUM, "labels": recall})).report()

    result = gate(report, "recall:SAD")
    assert gate(report, "accuracy").passed
    assert (result.value, result.passed) == (4 / 14, False)
    assert (result.lower, result.upper) == pytest.approx(wilson_bounds(4 / 14, 14, confidence=0.95))
    assert "recall of 'SAD' 0.286" in result.reason
    assert "Why 0.600: Readers of the table notice it." in result.reason
    precision = gate(report, "precision:SAD")
    assert (precision.value, precision.lower) == (0.5, pytest.approx(wilson_bounds(0.5, 8, confidence=0.95)[0]))
    assert precision.passed


@pytest.mark.parametrize(
    ("name", "minimum", "passes"),
    [("macro_f1", 0.5, True), ("macro_f1", 0.62, False), ("kappa", 0.04, True), ("kappa", 0.3, False)],
)
def test_macro_f1_and_kappa_are_held_by_their_lower_bound(name: str, minimum: float, passes: bool) -> None:
    """Both see what an average over documents hides; a point above the minimum is not enough."""
    from sklearn.metrics import cohen_kappa_score, f1_score

    world = imbalanced(world_of(gates={name: floor(minimum)}))
    truth = [row["answer"] for row in world.known]
    given = [row["answer"] for row in world.documents]
    expected = f1_score(truth, given, average="macro") if name == "macro_f1" else cohen_kappa_score(truth, given)

    report = world.report()

    result = gate(report, name)
    assert result.value == pytest.approx(expected)
    assert result.upper is not None
    assert result.lower < result.value < result.upper
    assert result.passed is passes is (result.lower >= minimum)
    assert (report.standing == "approved") is passes


def test_kappa_covers_as_often_as_it_says() -> None:
    """Its interval decides what is published; a bootstrap of its own is the yardstick."""
    from sklearn.metrics import cohen_kappa_score

    world = world_of(gates={"kappa": floor(0.1)})
    world.add(80).add(15, answer="SAD").add(60, answer="SAD", reference="SAD").add(25, reference="SAD")
    truth = np.array([row["answer"] for row in world.known])
    given = np.array([row["answer"] for row in world.documents])
    draws = np.random.default_rng(5).integers(len(truth), size=(800, len(truth)))
    expected = np.quantile([cohen_kappa_score(truth[draw], given[draw]) for draw in draws], [0.025, 0.975])

    result = gate(world.report(), "kappa")

    assert (result.lower, result.upper) == pytest.approx(tuple(expected), abs=0.03)


@pytest.mark.parametrize("looks", ["once", "any"])
def test_kappa_of_full_agreement_claims_no_certainty(looks: str) -> None:
    """Ten right answers of ten show little, and a bootstrap of them shows nothing at all."""
    world = world_of(gates={"kappa": floor(0.9), "looks": looks}).add(5).add(5, answer="SAD", reference="SAD")

    result = gate(world.report(), "kappa")

    assert result.value == 1.0
    assert result.lower < 0.5
    assert not result.passed


def test_a_label_that_nobody_has_or_gets_is_not_measured() -> None:
    """What was not measured does not pass."""
    labels = {"SAD": LabelGates(precision=floor(0.1), recall=floor(0.1))}
    world = world_of(gates={"accuracy": MINIMUM, "labels": labels}).add(50)

    report = world.report()

    assert not gate(report, "precision:SAD").passed
    assert "no answer is 'SAD'" in gate(report, "precision:SAD").reason
    assert "no evaluated document is 'SAD'" in gate(report, "recall:SAD").reason
    assert not report.passed


def test_a_gate_on_one_field() -> None:
    """Three of four fields may be right while the one that money depends on is wrong."""
    fields = {"total": OutputField(type="number"), "paid": OutputField(type="enum", values=("CASH", "CARD"))}
    gates = Gates(fields={"total": floor(0.9), "paid": floor(0.6)})
    world = World(application=application_of("extract", fields=fields, evaluation=Evaluation(gates=gates)))
    for number in range(60):
        known = {"total": number, "paid": "CASH" if number % 2 else "CARD"}
        given = {**known, "total": number + (number % 5 == 0)}
        world.add(answer=json.dumps(given), reference=json.dumps(known))

    report = world.report()

    assert (gate(report, "field:total").value, gate(report, "field:total").passed) == (0.8, False)
    assert (gate(report, "field:paid").value, gate(report, "field:paid").passed) == (1.0, True)
    assert gate(report, "field:paid").lower < 1.0
    assert gate(report, "minimum_above_constant_answer").passed


OWN = """
from llm_platform.records import Interval

def share_of_sad(rows):
    return float((rows["predicted"] == "SAD").mean())

def never(rows):
    return float(sum(0 for _ in rows["predicted"]))

def with_interval(rows):
    return Interval(value=12.0, lower=10.0, upper=14.0, confidence=0.95, count=len(rows))

def constant(rows):
    return 12.0
"""


@pytest.mark.parametrize(
    ("metric", "limit", "passes", "bound"),
    [
        pytest.param("share_of_sad", {"minimum": 0.3}, True, None, id="resampled-minimum"),
        pytest.param("share_of_sad", {"minimum": 0.42}, False, None, id="bound-under-the-minimum"),
        pytest.param("share_of_sad", {"maximum": 0.55}, True, None, id="resampled-maximum"),
        pytest.param("share_of_sad", {"maximum": 0.47}, False, None, id="bound-over-the-maximum"),
        pytest.param("never", {"maximum": 0.02}, True, wilson_bounds(0.0, 200, confidence=0.95)[1], id="none-of-200"),
        pytest.param("never", {"maximum": 0.01}, False, wilson_bounds(0.0, 200, confidence=0.95)[1], id="is-not-zero"),
        pytest.param("with_interval", {"minimum": 9.0}, True, 10.0, id="own-interval"),
        pytest.param("with_interval", {"minimum": 11.0}, False, 10.0, id="own-interval-under"),
        pytest.param("constant", {"minimum": 5.0}, False, None, id="a-point-is-no-evidence"),
    ],
)
def test_a_gate_on_a_metric_of_the_teams_own(
    tmp_path: Path, metric: str, limit: dict[str, float], passes: bool, bound: float | None
) -> None:
    """A bare number is resampled, so that it is held by a bound as every other; a point never decides."""
    (tmp_path / "grading.py").write_text(OWN)
    own = MetricGate(**limit, reason=REASON)
    gates = {"accuracy": MINIMUM, "metrics": {metric: own}}
    world = world_of(gates=gates, metrics=(f"grading:{metric}",), folder=tmp_path)
    world.add(110).add(90, answer="SAD", reference="SAD")

    report = world.report()

    result = gate(report, f"metric:{metric}")
    assert result.passed is passes is report.passed, result.reason
    if bound is not None:
        assert result.bound == pytest.approx(bound)
    if metric == "share_of_sad":
        assert (result.lower, result.upper) == pytest.approx(wilson_bounds(0.45, 200, confidence=0.95), abs=0.01)


@pytest.mark.parametrize(
    ("gates", "passes"),
    [
        pytest.param({"labels": {"HAPPY": LabelGates(recall=floor(0.9))}}, False, id="recall-alone-is-always-reached"),
        pytest.param(
            {"labels": {"HAPPY": LabelGates(recall=floor(0.9), precision=floor(0.7))}}, True, id="with-precision"
        ),
        pytest.param({"labels": {"HAPPY": LabelGates(recall=floor(0.9))}, "kappa": floor(0.1)}, True, id="with-kappa"),
        pytest.param(
            {"accuracy": floor(0.55), "labels": {"HAPPY": LabelGates(recall=floor(0.9))}}, False, id="accuracy"
        ),
        pytest.param({"macro_f1": floor(0.37)}, False, id="macro-f1-of-one-answer"),
        pytest.param({"macro_f1": floor(0.4)}, True, id="macro-f1"),
        pytest.param({"kappa": floor(0.0)}, False, id="kappa-of-one-answer"),
    ],
)
def test_minimums_that_one_answer_reaches_prove_nothing(gates: dict[str, Any], passes: bool) -> None:
    """Always saying HAPPY has a recall of 1 for it: minimums count together, as they have to be passed together."""
    world = world_of(gates=gates).add(120).add(80, answer="SAD", reference="SAD")

    result = gate(world.report(), "minimum_above_constant_answer")

    assert result.passed is passes, result.reason


def test_every_gate_has_a_check_with_a_name_that_dagster_takes() -> None:
    """Labels hold blanks, dots and umlauts; two that differ only in those must not share a check."""
    labels = ("card payment?", "card_payment_", "Ärger", "SAD")
    stated = dict.fromkeys(labels, LabelGates(precision=floor(0.5), recall=floor(0.5)))
    application = application_of(labels=labels, evaluation=Evaluation(gates=Gates(kappa=floor(0.2), labels=stated)))

    names = gate_names(application)
    claims = [claim(name) for name in names]

    assert {f"recall:{label}" for label in labels} <= set(names)
    assert len(set(claims)) == len(claims)
    assert all(one.isascii() and one.isidentifier() for one in claims)
    assert "minimum_stated" not in names
    world = World(application=application).add(40, answer="SAD", reference="SAD").add(5, split="train", reference="SAD")
    assert {result.name for result in world.report().gates} <= set(names)


def test_reasons_are_wording_and_limits_are_evidence() -> None:
    """A reworded reason must not ask for new reports; a moved minimum must."""
    identities = [
        world_of(gates={"kappa": Gate(minimum=minimum, reason=reason)}).add(5).report().evaluation_id
        for minimum, reason in ((0.2, REASON), (0.2, "Other words, same number."), (0.3, REASON))
    ]

    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("task", "answer", "identity"),
    [
        pytest.param("classify", "HAPPY", "96f7429ef05aaed5", id="classify"),
        pytest.param("extract", '{"total":5,"day":null}', "73858a9a8f1ae516", id="extract"),
    ],
)
def test_evidence_from_before_these_gates_holds(task: str, answer: str, identity: str) -> None:
    """Another identity would take every published table's approval away, and ask for every report again."""
    world = World(application=application_of(task)).add(5, answer=answer, reference=answer)

    assert world.report().evaluation_id == identity
