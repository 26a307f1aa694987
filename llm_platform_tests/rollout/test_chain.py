"""Rows of a rollout bear each other out: what was decided stands, and what was written beside it does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.records.rollout import RolloutPolicy, RolloutStage, RolloutStep
from llm_platform.rollout.chain import broken_at
from llm_platform.rollout.decision import GuardBreach, RolloutState, StageEvidence, next_state

POLICY = RolloutPolicy(
    stages=(
        RolloutStage(stage="shadow", share=0.5, shows="nothing", least_documents=10, budget_tokens=1000),
        RolloutStage(stage="canary", share=0.1, shows="nothing", least_documents=10),
        RolloutStage(stage="champion"),
    )
)
EVIDENCE = st.builds(
    StageEvidence,
    documents=st.integers(0, 20),
    spent_tokens=st.integers(0, 2000),
    unpublished=st.integers(0, 1),
    refused=st.sampled_from([None, "its report did not pass"]),
    void=st.sampled_from([None, None, None, "the prompt"]),
    breaches=st.sampled_from([(), (), (GuardBreach(name="valid_rate", measured="0.1", action="hold"),)]),
    withdrawn_by=st.sampled_from([None, None, None, "ann"]),
    resumed_by=st.sampled_from([None, "ann"]),
    serves=st.sampled_from([False, False, False, True]),
)


def row(state: RolloutState, **values: Any) -> RolloutStep:
    stage = POLICY.stages[state.stage]
    fields: dict[str, Any] = {
        "application": "reviews",
        "rollout_id": "r",
        "step_id": "s",
        "kind": "start",
        "variant": "plain",
        "release_id": "release",
        "champion_release_id": "champion",
        "stage": state.stage,
        "stage_name": stage.name,
        "share": stage.share,
        "status": state.status,
        "underneath": "{}",
        "policy": POLICY.model_dump_json(),
        "policy_hash": POLICY.hash,
        "by": "rollout",
        "at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return RolloutStep(**{**fields, **values})


def decided(evidence: list[StageEvidence]) -> list[RolloutStep]:
    """The rows that looks at this evidence leave, until the rollout is over."""
    state = RolloutState()
    rows = [row(state)]
    for seen in evidence:
        if state.is_over:
            break
        verdict = next_state(state, seen, POLICY)
        state = verdict.state
        told = {"decision": verdict.decision, "reasons": verdict.reasons, "evidence": seen.model_dump_json()}
        rows.append(row(state, kind="decide", **told))
    return rows


@settings(max_examples=150, deadline=None)
@given(st.lists(EVIDENCE, max_size=6))
def test_what_the_rules_decided_is_borne_out(evidence: list[StageEvidence]) -> None:
    """An honest rollout is never taken for a forged one: its canary would lose its readers."""
    assert broken_at(decided(evidence)) is None


@settings(max_examples=150, deadline=None)
@given(st.lists(EVIDENCE, min_size=1, max_size=6), st.data())
def test_a_row_that_says_more_than_its_evidence_is_found(evidence: list[StageEvidence], data: st.DataObject) -> None:
    """Whoever writes a row beside the platform would have to write evidence that leads there."""
    rows = decided(evidence)
    at = data.draw(st.integers(1, len(rows) - 1)) if len(rows) > 1 else 0
    further = min(rows[at].stage + 1, len(POLICY.stages) - 1)
    forged = [
        rows[at].model_copy(update={"stage": further, "share": POLICY.stages[further].share}),
        rows[at].model_copy(update={"status": "champion"}),
        rows[at].model_copy(update={"share": 0.9}),
        rows[at].model_copy(update={"release_id": "another"}),
    ]
    for one in forged:
        if one != rows[at] and at:
            assert broken_at([*rows[:at], one, *rows[at + 1 :]]) is not None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row(RolloutState(stage=1))], id="begins-on-a-canary"),
        pytest.param([row(RolloutState(), kind="approve")], id="begins-without-a-start"),
        pytest.param([row(RolloutState()), row(RolloutState(stage=1), kind="decide", decision="promote")], id="bare"),
        pytest.param([row(RolloutState()), row(RolloutState(stage=1), kind="approve")], id="a-word-moves-nothing"),
        pytest.param([row(RolloutState(), policy_hash="other")], id="another-policy"),
    ],
)
def test_rows_without_a_beginning_or_a_reason_are_broken(rows: list[RolloutStep]) -> None:
    """Each is one row that would open a canary to readers."""
    assert broken_at(rows) is not None
