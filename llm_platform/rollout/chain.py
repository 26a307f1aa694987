"""Whether the rows of a rollout follow from each other: what was decided, decided again from the stored evidence.

Whoever may write to the lake may write a row. A row that says "canary" without evidence from which the state machine
comes to a canary publishes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_platform.records.rollout import RolloutPolicy, RolloutStep
from llm_platform.rollout.decision import RolloutState, StageEvidence, next_state


def broken_at(steps: Sequence[RolloutStep]) -> str | None:
    """The first row that does not follow from those before, in words; None where all do.

    Args:
        steps: Of one rollout, oldest first; at least one.
    """
    first = steps[0]
    if first.kind != "start" or (first.stage, first.status) != (0, "running"):
        return f"its first row is no start ({first.kind} at {first.stage_name})"
    policy = first.stages()
    if policy.hash != first.policy_hash:
        return "its policy is not the one that it was entered under"
    state = RolloutState()
    for step in steps:
        same = (step.release_id, step.variant, step.policy) == (first.release_id, first.variant, first.policy)
        after = _after(step, state, policy) if same else None
        if after is None:
            return f"row {step.step_id}, {step.stage_name} ({step.status}), does not follow from its evidence"
        state = after
    return None


def _after(step: RolloutStep, state: RolloutState, policy: RolloutPolicy) -> RolloutState | None:
    """The state after a row; None where the row says another one, or has decided without evidence."""
    if step.kind == "decide":
        if step.evidence is None:
            return None
        verdict = next_state(state, StageEvidence.model_validate_json(step.evidence), policy)
        # The reasons are words, which a later version may choose otherwise.
        if step.decision != verdict.decision:
            return None
        state = verdict.state
    said = (step.stage, step.status, step.share)
    return state if said == (state.stage, state.status, policy.stages[state.stage].share) else None
