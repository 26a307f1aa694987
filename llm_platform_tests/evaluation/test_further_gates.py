"""Gates beside accuracy and validity: slices, the champion, a judge, and ceilings on cost and time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from llm_platform.application.evaluation import Evaluation, Gates, RegressionGate, SliceGate
from llm_platform.evaluation.effort import Ordered
from llm_platform.evaluation.gate_names import claim, gate_names
from llm_platform.evaluation.regression import ChampionScores
from llm_platform.evaluation.report import Report
from llm_platform.records import Ceiling, Gate, GateResult, InferenceRun, Interval, Prices, TokenUsage
from llm_platform_tests.evaluation.builders import CREATED, MINIMUM, World, application_of, release_of

REASON = "Readers of the table notice it."


def world_of(*, scorers: tuple[str, ...] = (), **gates: Any) -> World:
    """A world whose application has these gates beside the one on accuracy."""
    stated = Gates(accuracy=MINIMUM, **gates)
    return World(application=application_of(evaluation=Evaluation(scorers=scorers, gates=stated)))


def balanced(world: World, right: int, wrong: int, **changes: Any) -> World:
    """So many right and wrong answers, half of them of each label."""
    for reference, other in (("HAPPY", "SAD"), ("SAD", "HAPPY")):
        world.add(right // 2, answer=reference, reference=reference, **changes)
        world.add(wrong // 2, answer=other, reference=reference, **changes)
    return world


def gate(report: Report, name: str) -> GateResult:
    """The result of one gate."""
    return next(result for result in report.gates if result.name == name)


def run_of(seconds: float, stored: int) -> InferenceRun:
    """A run of the plain release."""
    usage = TokenUsage(prompt_tokens=100 * stored, completion_tokens=stored)
    facts = {"sent": stored, "stored": stored, "reused": 0, "failed": 0, "retries": 0, "usage": usage}
    return InferenceRun(run_id="r", release_id=release_of().release_id, started_at=CREATED, seconds=seconds, **facts)


def test_one_bad_slice_refuses_what_is_good_on_average() -> None:
    """0.85 overall hides that one team's documents are answered by a coin."""
    gates = Gates(accuracy=MINIMUM, slices=SliceGate(minimum=0.6, documents=30, reason=REASON))
    world = World(application=application_of(evaluation=Evaluation(slices=("origin",), gates=gates)))
    balanced(world, 180, 10, origin="here")
    balanced(world, 20, 20, origin="there")
    balanced(world, 2, 2, origin="rare")

    report = world.report()

    result = gate(report, "slices")
    assert gate(report, "accuracy").passed
    assert not result.passed
    assert result.reason.startswith("slices: the worst, origin=there, has 0.50")
    assert "1 smaller slice left out" in result.reason
    assert result.next_step is not None
    assert "origin=there" in result.next_step
    assert report.standing == "refused"


def test_slices_that_are_all_too_small_do_not_pass() -> None:
    """No slice was shown to be good; that is not the same as every slice being good."""
    gates = Gates(accuracy=MINIMUM, slices=SliceGate(minimum=0.6, documents=500, reason=REASON))
    world = World(application=application_of(evaluation=Evaluation(slices=("origin",), gates=gates)))

    assert not gate(balanced(world, 90, 10).report(), "slices").passed


def beside_champion(own: int, theirs: int, *, margin: float, of: int = 200, challengers: int = 1) -> Report:
    """A variant with `own` and a champion with `theirs` right answers of the same documents, the first ones."""
    regression = RegressionGate(margin=margin, reason=REASON)

    def answered(right: int) -> World:
        world = world_of(regression=regression)
        for index in range(of):
            label, other = ("HAPPY", "SAD") if index % 2 else ("SAD", "HAPPY")
            world.add(answer=label if index < right else other, reference=label)
        return world

    serving = release_of("serving")
    scores = ChampionScores(serving.release_id, answered(theirs).scores(serving), challengers)
    return answered(own).report(champion=scores)


@pytest.mark.parametrize(
    ("own", "theirs", "passed", "standing"),
    [
        pytest.param(180, 150, True, "approved", id="better"),
        pytest.param(150, 150, True, "approved", id="the-same-answers"),
        pytest.param(147, 150, False, "undecided", id="a-little-worse-cannot-be-told-yet"),
        pytest.param(130, 150, False, "refused", id="worse"),
    ],
)
def test_a_variant_must_not_fall_behind_the_champion(own: int, theirs: int, passed: bool, standing: str) -> None:
    """Clearing the minimum is not enough where something better is published already."""
    report = beside_champion(own, theirs, margin=0.03)

    assert gate(report, "regression").passed is passed
    assert report.standing == standing


def test_a_judges_grade_of_the_champion_is_not_compared_with_right_and_wrong() -> None:
    """With a second scorer, whatever was stored last stood for the champion's answer: the gate compared two things."""
    world = world_of(regression=RegressionGate(margin=0.03, reason=REASON))
    balanced(world, 150, 50)
    serving = release_of("serving")
    exact = world.scores(serving)
    judged = [score.model_copy(update={"scorer": "judge:strict", "score": 0.0}) for score in exact]

    report = world.report(champion=ChampionScores(serving.release_id, [*exact, *judged]))

    assert report.regression is not None
    assert report.regression.difference is not None
    assert report.regression.difference.value == 0.0


def test_of_many_challengers_none_passes_for_being_one_of_many() -> None:
    """The best of those that pass is promoted, so all of them have to be right together, as on the card."""
    alone, many = (beside_champion(147, 150, margin=0.045, challengers=count) for count in (1, 10))

    assert alone.regression is not None
    assert many.regression is not None
    assert alone.regression.difference is not None
    assert many.regression.difference is not None
    assert many.regression.difference.value == alone.regression.difference.value
    assert many.regression.difference.lower < alone.regression.difference.lower
    assert gate(alone, "regression").passed
    assert not gate(many, "regression").passed


def test_evidence_against_one_champion_is_none_against_the_next() -> None:
    """The champion is part of what a report was measured with, where a gate compares with it."""
    first = beside_champion(150, 150, margin=0.03)
    world = world_of(regression=RegressionGate(margin=0.03, reason=REASON))
    balanced(world, 150, 50)
    other = release_of("another")

    ids = {
        world.report(champion=champion).evaluation_id
        for champion in (None, ChampionScores("a", []), ChampionScores(other.release_id, world.scores(other)))
    }

    assert first.regression is not None
    assert len(ids) == 3


def test_the_champion_does_not_fall_behind_itself() -> None:
    """It is measured again with every new label, and must not be refused for being the same."""
    world = balanced(world_of(regression=RegressionGate(margin=0.0, reason=REASON)), 180, 20)
    own = ChampionScores(release_of().release_id, world.scores())

    result = gate(world.report(champion=own), "regression")

    assert result.passed
    assert result.reason.startswith("This release is the champion")
    assert result.verdict == "not measured"


def test_without_a_shared_document_there_is_no_comparison() -> None:
    """Silence is not evidence."""
    world = balanced(world_of(regression=RegressionGate(margin=0.1, reason=REASON)), 180, 20)

    report = world.report(champion=ChampionScores("someone", []))

    assert not gate(report, "regression").passed
    assert "share no graded document" in gate(report, "regression").reason


@pytest.mark.parametrize(
    ("agreement", "passed"),
    [
        pytest.param(None, False, id="not-measured"),
        pytest.param(Interval(value=0.7, lower=0.55, upper=0.8, confidence=0.95, count=80), False, id="too-uncertain"),
        pytest.param(Interval(value=0.8, lower=0.65, upper=0.9, confidence=0.95, count=200), True, id="agrees"),
    ],
)
def test_a_judge_gates_only_where_it_agrees_with_people(agreement: Interval | None, passed: bool) -> None:
    """An unmeasured judge is an opinion."""
    world = balanced(world_of(judge_agreement=Gate(minimum=0.6, reason=REASON)), 180, 20)

    assert gate(world.report(judge_agreement=agreement), "judge_agreement").passed is passed


def test_scores_of_a_judge_without_a_stated_agreement_approve_nothing() -> None:
    """The file is refused by `application check`; a report that was built all the same must refuse as well."""
    world = balanced(world_of(scorers=("judge:strict",)), 180, 20)

    result = gate(world.report(scores=[]), "judge_agreement")

    assert not result.passed
    assert "nothing says how far it has to agree with people" in result.reason


def costly(seconds: float, price: float | None = 3.6, **gates: Any) -> Report:
    """180 of 200 right; 3.6 USD an hour make 0.001 USD a second."""
    return balanced(world_of(**gates), 180, 20).report(runs=[run_of(seconds, 200)], prices=Prices(usd_per_hour=price))


@pytest.mark.parametrize(
    ("name", "maximum", "passed"),
    [
        # 20 s of 0.001 USD over 200 documents: 0.0001 USD a document, 0.000111 USD for each of the 0.9 that are right.
        ("cost_usd_per_document", 0.0001, True),
        ("cost_usd_per_document", 0.000099, False),
        ("cost_usd_per_correct_answer", 0.00012, True),
        ("cost_usd_per_correct_answer", 0.000112, False),
    ],
)
def test_costs_are_held_under_their_ceiling(name: str, maximum: float, passed: bool) -> None:
    """The upper bound counts: what a correct answer costs is as uncertain as how many are right."""
    result = gate(costly(20.0, **{name: Ceiling(maximum=maximum, reason=REASON)}), name)

    assert result.passed is passed
    assert result.maximum == maximum
    assert result.bound >= result.value


def test_a_cost_that_nobody_measured_does_not_pass() -> None:
    """Without a price in the lock file nothing is cheap."""
    result = gate(
        costly(20.0, None, cost_usd_per_document=Ceiling(maximum=1.0, reason=REASON)), "cost_usd_per_document"
    )

    assert not result.passed
    assert result.next_step is not None
    assert "price_per_gpu_hour_usd" in result.next_step


def slow(count: int, **gates: Any) -> Report:
    """Right answers after 0.1 to 1 seconds each."""
    world = world_of(**gates)
    for index in range(count):
        label = "HAPPY" if index % 2 else "SAD"
        world.add(answer=label, reference=label, latency_seconds=0.1 * (1 + index % 10))
    return world.report()


@pytest.mark.parametrize(
    ("count", "maximum", "passed", "standing"),
    [
        pytest.param(200, 1.0, True, "approved", id="under"),
        pytest.param(200, 0.95, False, "refused", id="over"),
        pytest.param(60, 5.0, False, "refused", id="too-few-for-an-upper-bound"),
    ],
)
def test_latency_is_held_under_its_ceiling(count: int, maximum: float, passed: bool, standing: str) -> None:
    """The 95th percentile of sixty answers has no upper bound, so it cannot be shown to be small."""
    report = slow(count, latency_p95_seconds=Ceiling(maximum=maximum, reason=REASON))

    assert gate(report, "latency_p95_seconds").passed is passed
    assert report.standing == standing


def test_waiting_for_a_correct_answer_counts_the_wrong_ones() -> None:
    """Half of the answers right, each after a second: two seconds for a right one."""
    ceiling = Ceiling(maximum=2.5, reason=REASON)
    world = world_of(latency_seconds_per_correct_answer=ceiling)
    report = balanced(world, 200, 200, latency_seconds=1.0).report()

    result = gate(report, "latency_seconds_per_correct_answer")

    assert result.value == pytest.approx(2.0)
    assert 1.7 < result.lower < 2.0 < result.bound < 2.5
    assert result.passed


def test_a_quantile_is_bounded_as_often_as_it_says() -> None:
    """Order statistics need no assumption on how latencies are spread; a heavy tail shows it."""
    import numpy as np

    generator = np.random.default_rng(29)
    truth, held = float(np.exp(1.6448536)), 0
    for _ in range(300):
        interval = Ordered(Counter(map(str, generator.lognormal(size=200).tolist()))).interval(0.95, confidence=0.9)
        assert interval is not None
        held += interval.lower <= truth <= interval.upper

    assert 0.87 <= held / 300 <= 0.98


def test_looks_at_any_time_need_more_evidence_and_say_how_much() -> None:
    """The same answers pass when the size was fixed before, and are undecided for who looks again and again."""
    once = balanced(world_of(), 140, 60).report()
    always = balanced(world_of(looks="any"), 140, 60).report()

    assert once.passed
    assert always.standing == "undecided"
    assert "if the measured rate stays" in str(gate(always, "accuracy").next_step)


def test_an_old_result_of_a_gate_is_still_read() -> None:
    """Reports and decisions that are stored have only a lower bound and a minimum."""
    old = '{"name":"accuracy","value":0.8,"lower":0.7,"minimum":0.65,"passed":true,"reason":"r","next_step":null}'

    result = GateResult.model_validate_json(old)

    assert (result.limit, result.bound, result.is_reached_by_value) == (0.65, 0.7, True)
    assert result.comparison == "lower bound 0.700, minimum 0.650"


@pytest.mark.parametrize(
    "gates",
    [
        pytest.param(Gates(), id="none"),
        pytest.param(Gates(accuracy=MINIMUM), id="accuracy"),
        pytest.param(Gates(valid_rate=Gate(minimum=0.9, reason=REASON)), id="valid-rate"),
        pytest.param(Gates(latency_p95_seconds=Ceiling(maximum=1.0, reason=REASON)), id="ceiling-alone"),
        pytest.param(Gates(accuracy=MINIMUM, regression=RegressionGate(margin=0.1, reason=REASON)), id="regression"),
    ],
)
@pytest.mark.parametrize("documents", [0, 60])
def test_every_gate_of_a_report_has_a_check(gates: Gates, documents: int) -> None:
    """A gate without a check is one that nobody sees in Dagster."""
    world = World(application=application_of(evaluation=Evaluation(gates=gates)))
    world.add(documents).add(5, status=None).add(3, split="train")

    names = {result.name for result in world.report().gates}

    assert names
    assert names <= set(gate_names(world.application))
    assert len({claim(name) for name in gate_names(world.application)}) == len(gate_names(world.application))
