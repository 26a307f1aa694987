"""Judges: what they are asked, what their verdicts become, and what is measured before they may gate anything."""

from __future__ import annotations

import copy
import uuid

import dagster as dg
import pytest

from llm_platform.operations.evidence.evaluation import report_releases, score_releases
from llm_platform.operations.evidence.judging import (
    TURNS_WITH_ORDER,
    judge_kappa,
    judge_panels,
    stored_agreement,
    stored_verdicts,
)
from llm_platform.records import Annotation
from llm_platform.workbench.prompt_work import ask_judge
from llm_platform_tests.operations.prompt_team import QUIET, Ran
from llm_platform_tests.team import NAME, Team, right_answer
from llm_platform_tests.warehouse.builders import NOON


def evaluated(team: Team) -> list[int]:
    """Documents of the evaluation split."""
    with team.warehouse.open() as lake:
        rows = lake.application(NAME).references.table().to_pylist()
    return [int(row["document_id"]) for row in rows if row["split"] == "evaluation"]


def test_a_judge_asks_once_for_each_answer_and_its_agreement_is_stored(ran: Ran) -> None:
    """Verdicts are completions: in the ledger, paid once; the number that a gate reads is there after the first run."""
    team, model = ran
    numbers = evaluated(team)
    before = model.counts.requests

    first = ask_judge(NAME, "right", settings=team.settings)
    asked = model.counts.requests - before
    second = ask_judge(NAME, "right", settings=team.settings)

    # Both variants say SAD to sad tickets, and a rubric that reads text and answer sees one question there.
    distinct = len(numbers) + sum(right_answer(number) == "HAPPY" for number in numbers)
    probes = first.agreement.injection.count if first.agreement.injection else 0
    assert asked >= distinct + probes
    assert first.sent == asked
    assert second.sent == 0
    assert second.version == first.version
    assert second.agreement.kappa == first.agreement.kappa
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        assert store.judgements.agreements().num_rows == 1
        stored = stored_agreement(store, team.loaded, "right")
    assert stored == first.agreement


def test_agreement_counts_what_the_judge_gets_wrong_and_leaves_out_what_it_does_not_say(ran: Ran) -> None:
    """The scripted judge errs on one ticket in ten and says nothing of another; neither may look like the other."""
    team, _ = ran
    numbers = evaluated(team)

    agreement = ask_judge(NAME, "right", settings=team.settings).agreement

    silent, wrong = ([number for number in numbers if number % 10 == digit] for digit in (3, 7))
    assert sum(agreement.ungraded.values()) == 2 * len(silent)
    assert all(reason.startswith("no verdict (invalid)") for reason in agreement.ungraded)
    assert agreement.agreed is not None
    assert agreement.kappa is not None
    judged = 2 * (len(numbers) - len(silent))
    assert agreement.agreed.count == judged
    assert agreement.agreed.value == pytest.approx(1 - 2 * len(wrong) / judged)
    assert agreement.kappa.lower < agreement.kappa.value < agreement.agreed.value
    assert agreement.by_hand == 0


def test_a_document_that_tells_the_judge_what_to_say_is_measured(ran: Ran) -> None:
    """The scripted judge obeys it every time; whoever reads the agreement has to see that beside it."""
    team, _ = ran

    agreement = ask_judge(NAME, "right", settings=team.settings).agreement

    assert agreement.injection is not None
    assert agreement.injection.value == 1.0
    assert agreement.injection.count >= 10


def test_a_judge_that_compares_is_asked_both_ways_round(ran: Ran) -> None:
    """On small numbers the scripted judge takes what stands first: that is no opinion, and no score."""
    team, _ = ran
    judged = ask_judge(NAME, "better", settings=team.settings)
    differing = [number for number in evaluated(team) if right_answer(number) == "HAPPY"]
    turning = [number for number in differing if number < 40]

    agreement = judged.agreement

    assert judged.sent == 2 * len(differing)
    assert agreement.position is not None
    assert agreement.position.count == len(differing)
    assert agreement.position.value == pytest.approx(len(turning) / len(differing))
    assert agreement.ungraded == {TURNS_WITH_ORDER: len(turning)}
    assert agreement.verdicts == {"wrong/wrong": len(differing) - len(turning)}


def test_verdicts_reach_the_scorer_and_the_card_only_through_what_is_stored(ran: Ran) -> None:
    """A check never calls a model; it reads what the asset stored."""
    team, model = ran
    ask_judge(NAME, "right", settings=team.settings)
    ask_judge(NAME, "better", settings=team.settings)
    team.specification["evaluation"]["scorers"] = ["exact", "judge:right"]
    team.write_specification()
    before = model.counts.requests

    with team.warehouse.open() as lake:
        store, loaded = lake.application(NAME), team.loaded
        clear, vague = (loaded.release(name, store) for name in ("clear", "vague"))
        assert clear is not None
        assert vague is not None
        verdicts = {name: stored_verdicts(store, loaded, one)["right"] for name, one in (("c", clear), ("v", vague))}
        kappa, panels = judge_kappa(store, loaded), judge_panels(store, loaded)
        agreement = stored_agreement(store, loaded, "right")
    del team.specification["evaluation"]["scorers"]
    team.write_specification()

    assert model.counts.requests == before
    assert agreement is not None
    assert kappa == agreement.kappa
    assert {panel.title for panel in panels} == {"Judge right", "Judge better"}
    happy = next(number for number in evaluated(team) if number % 10 not in (3, 7) and right_answer(number) == "HAPPY")
    found = {
        name: {key[0]: grade.score for key, grade in one.grades.items()}[str(happy)] for name, one in verdicts.items()
    }
    assert found == {"c": 1.0, "v": 0.0}
    silent = next(number for number in evaluated(team) if number % 10 == 3)
    grade = next(grade for key, grade in verdicts["c"].grades.items() if key[0] == str(silent))
    assert grade.score is None
    assert grade.reason is not None


def test_what_people_say_by_hand_counts_before_the_known_answer(ran: Ran) -> None:
    """A known answer can be wrong; a reviewer has looked at this very answer."""
    team, _ = ran
    before = ask_judge(NAME, "right", settings=team.settings).agreement
    number = next(number for number in evaluated(team) if number % 10 not in (3, 7))
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = team.loaded.release("clear", store)
        assert release is not None
        fingerprint = next(
            row["fingerprint"] for row in store.documents.table().to_pylist() if row["document_id"] == str(number)
        )
        key = uuid.uuid4().hex
        verdict = Annotation(
            annotation_id=key,
            group_id=key,
            kind="verdict",
            subject_kind="answer",
            subject_id=f"{release.release_id}/{number}",
            document_id=str(number),
            fingerprint=fingerprint,
            release_id=release.release_id,
            verdict="wrong",
            judged=right_answer(number),
            by="reviewer",
            at=NOON,
        )
        store.annotations.append([verdict])

    after = ask_judge(NAME, "right", settings=team.settings).agreement

    assert after.by_hand == 1
    assert before.agreed is not None
    assert after.agreed is not None
    assert after.agreed.value < before.agreed.value


def test_the_judge_is_an_asset_with_a_job_of_its_own(ran: Ran) -> None:
    """A judge that nobody scores with costs nothing in the daily run."""
    team, model = ran
    definitions = team.definitions()
    daily = {key.to_user_string() for key in definitions.resolve_job_def(NAME).asset_layer.executable_asset_keys}
    ask_judge(NAME, "right", settings=team.settings)
    before = model.counts.requests

    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def(f"{NAME}_judge")
        asked = f"{NAME}__judgements_right"
        result = job.execute_in_process(instance=instance, run_config=QUIET, op_selection=[asked])
    [made] = result.asset_materializations_for_node(asked)

    assert f"{NAME}/judgements_right" not in daily
    assert result.success
    assert made.metadata["checks"].value == "1 held"
    assert model.counts.requests == before


@pytest.mark.parametrize(("minimum", "passes"), [(0.9, False), (0.2, True)])
def test_a_judge_gates_only_what_its_agreement_allows(ran: Ran, minimum: float, passes: bool) -> None:
    """The scripted judge errs on one ticket in nine: enough for 0.2, not for 0.9. What decides is what is stored."""
    team, _ = ran
    ask_judge(NAME, "right", settings=team.settings)
    evaluation = team.specification["evaluation"]
    plain = copy.deepcopy(evaluation)
    evaluation["scorers"] = ["judge:right"]
    evaluation["gates"]["judge_agreement"] = {"minimum": minimum, "reason": "agreed with the people who label"}
    team.write_specification()
    try:
        with team.warehouse.open() as lake:
            score_releases(lake, team.loaded)
            made = report_releases(lake, team.loaded, cards_folder=team.root / "judged")
    finally:
        team.specification["evaluation"] = plain
        team.write_specification()

    gates = {gate.name: gate for gate in made.reports["clear"].gates}
    assert gates["judge_agreement"].passed is passes
    assert made.reports["clear"].scorer.startswith("judge:right/")
    assert made.reports["clear"].passed <= passes
