"""The state machine of a rollout: every combination of what can be seen, and properties over any policy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_platform.records import Interval
from llm_platform.records.rollout import RolloutPolicy, RolloutStage
from llm_platform.rollout.decision import Approval, GuardBreach, RolloutState, RolloutVerdict, StageEvidence, next_state

CHAMPION = RolloutStage(stage="champion", share=1.0)


def interval(lower: float, upper: float) -> Interval:
    return Interval(value=(lower + upper) / 2, lower=lower, upper=upper, confidence=0.95, count=100)


BETTER, WORSE, UNSURE, CLOSE = interval(0.02, 0.08), interval(-0.2, -0.05), interval(-0.1, 0.1), interval(-0.009, 0.03)
BREACHES = {action: GuardBreach(name="p95 latency", measured="21 s", action=action) for action in ("withdraw", "hold")}
ANN, BEN = Approval(by="ann", role="adjudicator"), Approval(by="ben", role="reviewer")


def policy(*, dry_run: bool = False, **canary: Any) -> RolloutPolicy:
    """A shadow, a canary of 5 % with these rules, a canary of a quarter, the champion."""
    rules: dict[str, Any] = {"least_documents": 100, "least_labels": 10, "margin": 0.01, "longest_hours": 48.0}
    return RolloutPolicy(
        stages=(
            RolloutStage(stage="shadow", share=0.5, shows="nothing", least_documents=50, budget_usd=2.0),
            RolloutStage(stage="canary", share=0.05, **(rules | canary)),
            RolloutStage(stage="canary", share=0.25),
            CHAMPION,
        ),
        dry_run=dry_run,
    )


def decided(state: RolloutState | None = None, rules: RolloutPolicy | None = None, **seen: Any) -> RolloutVerdict:
    """The verdict on the 5 % canary, of which enough was seen unless stated otherwise."""
    evidence = StageEvidence(**({"documents": 200, "labels": 50, "difference": CLOSE} | seen))
    return next_state(state or RolloutState(stage=1), evidence, rules or policy())


@pytest.mark.parametrize(
    ("seen", "decision", "said"),
    [
        pytest.param({}, "promote", "canary 0.05 has shown what it must", id="not-worse"),
        pytest.param({"difference": UNSURE}, "inconclusive", "may still be more than 0.01 worse", id="unsure"),
        pytest.param({"difference": WORSE}, "withdraw", "more than 0.01 worse than the champion", id="shown-worse"),
        pytest.param({"difference": None}, "inconclusive", "no document has a score of both", id="no-labels"),
        pytest.param({"documents": 99}, "inconclusive", "99 of 100 documents", id="few-documents"),
        pytest.param({"labels": 9}, "inconclusive", "9 of 10 labels", id="few-labels"),
        pytest.param({"difference": UNSURE, "hours": 48.0}, "withdraw", "48 of at most 48 hours", id="took-too-long"),
        pytest.param({"hours": 480.0}, "promote", "at most 0.01 worse", id="late-and-shown"),
        pytest.param({"split_is_as_stated": False}, "hold", "stated shares", id="split"),
        pytest.param({"breaches": (BREACHES["hold"],)}, "hold", "p95 latency is 21 s", id="guard-holds"),
        pytest.param({"breaches": (BREACHES["withdraw"],)}, "withdraw", "p95 latency is 21 s", id="guard-withdraws"),
        pytest.param({"void": "the prompt"}, "hold", "the prompt has changed", id="moved-underneath"),
        pytest.param({"held_by": "ann"}, "hold", "ann holds it", id="person-holds"),
        pytest.param({"withdrawn_by": "ann", "held_by": "ben"}, "withdraw", "ann withdrew it", id="withdrawal-first"),
        pytest.param(
            {"difference": WORSE, "split_is_as_stated": False}, "withdraw", "0.01 worse", id="worse-beats-hold"
        ),
    ],
)
def test_what_is_seen_decides(seen: dict[str, Any], decision: str, said: str) -> None:
    """Each rule by itself, with the sentence that people read."""
    verdict = decided(**seen)

    assert verdict.decision == decision
    assert any(said in reason for reason in verdict.reasons)


def test_the_interval_decides_and_not_the_measured_difference() -> None:
    """A challenger that only looks better, or only looks worse, stays where it is."""
    looks_better, looks_worse = interval(-0.02, 0.30), interval(-0.30, -0.005)

    for difference in (looks_better, looks_worse):
        assert decided(difference=difference).decision == "inconclusive"
        assert decided(rules=policy(shows="better"), difference=difference).decision == "inconclusive"
    assert decided(rules=policy(shows="better"), difference=CLOSE).decision == "inconclusive"
    assert decided(rules=policy(shows="better"), difference=BETTER).decision == "promote"


@pytest.mark.parametrize(
    ("approvals", "roles", "given_by", "decision"),
    [
        pytest.param(1, (), (), "inconclusive", id="nobody"),
        pytest.param(1, (), (BEN,), "promote", id="anybody"),
        pytest.param(1, ("adjudicator",), (BEN,), "inconclusive", id="other-role"),
        pytest.param(1, ("adjudicator",), (ANN,), "promote", id="the-role"),
        pytest.param(2, (), (ANN, ANN), "inconclusive", id="one-person-twice"),
        pytest.param(2, (), (ANN, ANN.model_copy(update={"role": "reviewer"})), "inconclusive", id="one-in-two-roles"),
        pytest.param(2, (), (ANN, BEN), "promote", id="two"),
        pytest.param(1, (), (ANN.model_copy(update={"authenticated": False}),), "inconclusive", id="claimed-name"),
    ],
)
def test_people_approve_with_their_own_voice(
    approvals: int, roles: tuple[str, ...], given_by: tuple[Approval, ...], decision: str
) -> None:
    """Four eyes are two people, and a name that nobody has checked is nobody's."""
    rules = policy(approvals=approvals, roles=roles)

    verdict = decided(rules=rules, approvals=given_by)

    assert verdict.decision == decision
    assert decided(rules=rules, approvals=given_by, hours=500.0).decision == decision


def test_a_held_rollout_waits_for_a_person_and_can_still_be_withdrawn() -> None:
    """A split that looks right again by itself has not been explained."""
    held = decided(split_is_as_stated=False).state

    assert held.status == "held"
    assert decided(held).decision == "hold"
    assert decided(held, resumed_by="ann").decision == "promote"
    assert decided(held, resumed_by="ann", split_is_as_stated=False).decision == "hold"
    assert decided(held, difference=WORSE).state.status == "withdrawn"


def test_a_shadow_ends_by_itself_when_its_money_is_spent() -> None:
    """Answers that nobody reads are paid for, too."""
    spent = next_state(RolloutState(), StageEvidence(documents=40, spent_usd=2.0), policy())

    assert spent.decision == "withdraw"
    assert "cost 2.00 of at most 2.00 USD" in spent.reasons[0]


def test_a_challenger_goes_stage_by_stage_to_the_end_and_stays_there() -> None:
    """And what is over is over: no evidence brings a withdrawn challenger back."""
    state, reached = RolloutState(), []
    for _ in range(4):
        verdict = decided(state, difference=BETTER)
        state = verdict.state
        reached.append((verdict.decision, state.stage, state.status))

    assert reached == [
        ("promote", 1, "running"),
        ("promote", 2, "running"),
        ("promote", 3, "champion"),
        ("hold", 3, "champion"),
    ]
    gone = decided(difference=WORSE).state
    assert decided(gone).state == gone
    assert decided(gone, resumed_by="ann").state == gone


def test_a_dry_run_is_ended_by_a_person_and_by_nobody_else() -> None:
    """It withdraws nothing by itself; but whoever has seen enough of it wants to enter the release in earnest."""
    rules = policy(dry_run=True)

    assert decided(rules=rules, difference=WORSE).state == RolloutState(stage=1)
    assert decided(rules=rules, withdrawn_by="ann").state == RolloutState(stage=1, status="withdrawn")


def test_what_serves_by_another_decision_is_no_challenger_any_more() -> None:
    """A rollback may bring back what is on its way again: nothing is left to be shown, and nothing to be withdrawn."""
    for rules in (policy(), policy(dry_run=True)):
        verdict = decided(rules=rules, serves=True, withdrawn_by="ann")

        assert verdict.state == RolloutState(stage=len(rules.stages) - 1, status="champion")
    gone = RolloutState(status="withdrawn")
    assert decided(gone, serves=True).state == gone


STATES = [
    RolloutState(stage=stage, status=status)  # type: ignore[arg-type]
    for stage in range(4)
    for status in ("running", "held", "withdrawn", "champion")
]


def test_every_combination_keeps_the_rules() -> None:
    """Two hundred thousand cases: each state with each thing that can be seen, wanted, granted and spent."""
    for dry_run, shows, approvals in itertools.product((False, True), ("nothing", "not_worse", "better"), (0, 1)):
        rules = policy(dry_run=dry_run, shows=shows, approvals=approvals)
        for state, difference, split, action, void, person, late, enough, approved in itertools.product(
            STATES,
            (None, BETTER, WORSE, UNSURE),
            (True, False),
            (None, "withdraw", "hold"),
            (None, "the prompt"),
            ({}, {"withdrawn_by": "ann"}, {"held_by": "ann"}, {"resumed_by": "ann"}),
            (False, True),
            (False, True),
            (False, True) if approvals else (False,),
        ):
            seen = StageEvidence.model_construct(
                documents=1000 if enough else 0,
                labels=1000 if enough else 0,
                hours=1000.0 if late else 0.0,
                spent_usd=0.0,
                difference=difference,
                split_is_as_stated=split,
                breaches=(BREACHES[action],) if action else (),
                void=void,
                approvals=(ANN,) if approved else (),
                **({"withdrawn_by": None, "held_by": None, "resumed_by": None} | person),
            )
            _keeps_the_rules(state, seen, rules, next_state(state, seen, rules))


def _keeps_the_rules(state: RolloutState, seen: StageEvidence, rules: RolloutPolicy, verdict: RolloutVerdict) -> None:
    stage, after = rules.stages[state.stage], verdict.state
    assert verdict.reasons
    assert verdict.applied is not rules.dry_run
    if rules.dry_run:
        assert after == state or seen.withdrawn_by
        return
    if state.is_over or stage.stage == "champion":
        assert verdict.decision == "hold"
        assert after.is_over
        assert after.stage == state.stage
        return
    withdraws = seen.withdrawn_by or any(one.action == "withdraw" for one in seen.breaches)
    worse = seen.difference is not None and seen.difference.upper < -stage.margin
    stops = seen.held_by or seen.void or not seen.split_is_as_stated or any(b.action == "hold" for b in seen.breaches)
    assert (after.status == "withdrawn") == (verdict.decision == "withdraw")
    assert (after.status == "held") == (verdict.decision == "hold")
    assert after.stage - state.stage == (verdict.decision == "promote")
    if withdraws or worse:
        assert verdict.decision == "withdraw"
    elif stops or (state.status == "held" and not seen.resumed_by):
        assert verdict.decision == "hold"
    else:
        assert verdict.decision != "hold" or stage.then == "hold"
    if verdict.decision == "promote":
        assert seen.documents >= stage.least_documents
        assert seen.labels >= stage.least_labels
        assert len(seen.approvals) >= stage.approvals
        if stage.shows != "nothing":
            assert seen.difference is not None
            assert seen.difference.lower >= (-stage.margin if stage.shows == "not_worse" else 1e-12)


BOUNDS = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted)


@settings(max_examples=150, deadline=None)
@given(BOUNDS, st.integers(0, 300), st.integers(0, 100), st.floats(0, 100), st.sampled_from(["not_worse", "better"]))
def test_better_evidence_never_makes_a_worse_verdict(
    bounds: list[float], documents: int, labels: int, hours: float, shows: str
) -> None:
    """Raising both ends of the interval, or adding documents, labels or an approval, never turns promotion away."""
    order = ("withdraw", "hold", "inconclusive", "promote")
    rules = policy(shows=shows, approvals=1)
    seen = {"documents": documents, "labels": labels, "hours": hours}
    weak = decided(rules=rules, difference=interval(*bounds), **seen)
    raised = [min(1.0, bound + 0.1) for bound in bounds]
    strong = decided(
        rules=rules, difference=interval(*raised), **(seen | {"documents": documents + 50}), approvals=(ANN,)
    )

    assert order.index(strong.decision) >= order.index(weak.decision)


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param([], id="none"),
        pytest.param([{"stage": "canary", "share": 0.1}], id="no-champion"),
        pytest.param([{"stage": "canary", "share": 0.1}, {"stage": "shadow", "share": 0.1}], id="shadow-after-canary"),
        pytest.param(
            [{"stage": "canary", "share": 0.2}, {"stage": "canary", "share": 0.1}, {"stage": "champion", "share": 1.0}],
            id="a-share-that-shrinks",
        ),
        pytest.param([{"stage": "champion", "share": 0.5}], id="half-a-champion"),
        pytest.param(
            [{"stage": "canary", "share": 0.1, "roles": ["adjudicator"]}, {"stage": "champion", "share": 1.0}],
            id="roles-without-approvals",
        ),
        pytest.param(
            [{"stage": "canary", "share": 0.1, "approvals": 3}, {"stage": "champion", "share": 1.0}], id="three-people"
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(stages: list[dict[str, Any]]) -> None:
    """Found when it is read, and not in the night in which it decides."""
    with pytest.raises(ValidationError):
        RolloutPolicy.model_validate({"stages": stages})


def test_a_state_of_another_policy_is_refused() -> None:
    """A stage that is no longer stated has no rules; guessing some would publish."""
    with pytest.raises(ValueError, match="stage 7"):
        next_state(RolloutState(stage=7), StageEvidence(), policy())


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        pytest.param({"unpublished": 3}, "3 documents of its share are not published yet", id="readers-have-it-not"),
        pytest.param({"refused": "its report is refused"}, "its report is refused", id="no-passing-report"),
    ],
)
def test_what_would_publish_needs_more_than_numbers(seen: dict[str, Any], missing: str) -> None:
    """A stage that no reader has seen, or a release that its gates refuse, is not let through by good evidence."""
    stages = (RolloutStage(stage="canary", share=0.1, shows="nothing"), CHAMPION)

    verdict = next_state(RolloutState(), StageEvidence(**seen), RolloutPolicy(stages=stages))

    assert (verdict.decision, verdict.reasons) == ("inconclusive", (missing,))


def test_tokens_end_a_stage_as_money_does() -> None:
    """A model without a price has a budget, too."""
    stages = (RolloutStage(stage="shadow", share=0.1, least_labels=9, budget_tokens=100), CHAMPION)
    policy = RolloutPolicy(stages=stages)

    assert next_state(RolloutState(), StageEvidence(spent_tokens=99), policy).decision == "inconclusive"
    assert next_state(RolloutState(), StageEvidence(spent_tokens=100), policy).decision == "withdraw"
    left = next_state(RolloutState(), StageEvidence(spent_tokens=90, exhausted=True), policy)
    assert left.decision == "withdraw"
    assert "the rest pays for no further document" in left.reasons[0]
