"""What becomes of a challenger, from what has been observed: a pure state machine.

What is looked at first wins: an end is an end; whatever withdraws does so whatever else is the case; a hold stops every
promotion until a person resumes; then the stage's evidence decides; time and money end what does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from llm_platform.records.base import Record
from llm_platform.records.evaluation import Interval
from llm_platform.records.rollout import Action, RolloutDecision, RolloutPolicy, RolloutStage, RolloutStatus

APPROVALS = "approvals"
HELD = "it is held until somebody resumes it"
SERVES = "it serves by a decision that was taken beside the rollout"


class RolloutState(Record):
    """Where a challenger is.

    Attributes:
        stage: Place of its stage in the policy.
    """

    stage: int = Field(default=0, ge=0)
    status: RolloutStatus = "running"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is decided."""
        return self.status in ("withdrawn", "champion")


class GuardBreach(Record):
    """A limit that the champion or the challenger is beyond, and what was stated to be done then."""

    name: str
    measured: str
    action: Action


class Approval(Record):
    """Somebody's word for the next stage, on the evidence as it is now."""

    by: str
    role: str
    authenticated: bool = True


class StageEvidence(Record):
    """What was observed of a challenger on its present stage.

    Attributes:
        documents, labels: How many there are; of a canary, documents that readers have its answer to.
        unpublished: Documents of a canary's share that it has answered and readers do not have yet.
        hours: Since the stage began.
        spent_usd, spent_tokens: By the challenger, on this stage.
        exhausted: What is left of the stage's budget has no room for one more document.
        difference: Its score minus the champion's, with an interval that holds at every look; None without labels.
        split_is_as_stated: Whether documents reach the variants in the stated shares.
        breaches: Of guards.
        void: What has moved underneath since the challenger was entered, so that its evidence is about something else.
        refused: Why its report does not allow that its answers are published; None where it does.
        approvals: Of the next stage.
        withdrawn_by, held_by, resumed_by: Who asked for it since the last decision.
        serves: Its release is the champion's by now.
    """

    documents: int = Field(default=0, ge=0)
    unpublished: int = Field(default=0, ge=0)
    labels: int = Field(default=0, ge=0)
    hours: float = Field(default=0.0, ge=0.0)
    spent_usd: float = Field(default=0.0, ge=0.0)
    spent_tokens: int = Field(default=0, ge=0)
    exhausted: bool = False
    difference: Interval | None = None
    split_is_as_stated: bool = True
    breaches: tuple[GuardBreach, ...] = ()
    void: str | None = None
    refused: str | None = None
    approvals: tuple[Approval, ...] = ()
    withdrawn_by: str | None = None
    held_by: str | None = None
    resumed_by: str | None = None
    serves: bool = False


class RolloutVerdict(Record):
    """What was decided, why, and the state after it.

    Attributes:
        reasons: Each a sentence without its end.
        state: After the decision; the state before it where the policy is a dry run, which only a person ends.
        applied: False for a dry run.
    """

    decision: RolloutDecision
    reasons: tuple[str, ...]
    state: RolloutState
    applied: bool = True


def next_state(state: RolloutState, seen: StageEvidence, policy: RolloutPolicy) -> RolloutVerdict:
    """Decide on one challenger; equal arguments give equal verdicts.

    Raises:
        ValueError: the state is of a policy with more stages.
    """
    if state.stage >= len(policy.stages):
        raise ValueError(f"the state is at stage {state.stage} of a policy that has {len(policy.stages)}")
    decision, reasons = _decided(state, seen, policy)
    after = _after(state, decision, policy)
    if seen.serves and not state.is_over:
        decision, reasons = "promote", [SERVES]
        after = RolloutState(stage=len(policy.stages) - 1, status="champion")
    stays = policy.dry_run and seen.withdrawn_by is None and not seen.serves
    return RolloutVerdict(
        decision=decision,
        reasons=tuple(reasons),
        state=state if stays else after,
        applied=not policy.dry_run,
    )


def _decided(state: RolloutState, seen: StageEvidence, policy: RolloutPolicy) -> tuple[RolloutDecision, list[str]]:
    stage = policy.stages[state.stage]
    if state.is_over or stage.stage == "champion":
        return "hold", [f"the rollout is over: the challenger is {_ending(state)}"]
    if reasons := _withdrawing(stage, seen):
        return "withdraw", reasons
    if reasons := _holding(state, seen):
        return "hold", reasons
    missing = _missing(stage, seen)
    if seen.refused is not None and policy.stages[state.stage + 1].stage != "shadow":
        missing.append(seen.refused)
    waiting = [] if missing else _waiting(stage, seen)
    if not missing and not waiting:
        return "promote", [f"stage {stage.stage} {stage.share:g} has shown what it must: {_shown(stage, seen)}"]
    # Evidence that is there must not run out while it waits for people; what has not shown it does.
    if missing and (ended := _ended(stage, seen)):
        return stage.then, [*ended, *missing]
    return "inconclusive", missing or waiting


def _after(state: RolloutState, decision: RolloutDecision, policy: RolloutPolicy) -> RolloutState:
    if state.is_over or policy.stages[state.stage].stage == "champion":
        return state.model_copy(update={"status": "withdrawn" if state.status == "withdrawn" else "champion"})
    if decision == "withdraw":
        return state.model_copy(update={"status": "withdrawn"})
    if decision == "hold":
        return state.model_copy(update={"status": "held"})
    if decision == "promote":
        reached = state.stage + 1
        ends = policy.stages[reached].stage == "champion"
        return RolloutState(stage=reached, status="champion" if ends else "running")
    return state.model_copy(update={"status": "running"})


def _withdrawing(stage: RolloutStage, seen: StageEvidence) -> list[str]:
    reasons = [] if seen.withdrawn_by is None else [f"{seen.withdrawn_by} withdrew it"]
    reasons += [f"{one.name} is {one.measured}" for one in seen.breaches if one.action == "withdraw"]
    if seen.difference is not None and seen.difference.upper < -stage.margin:
        reasons.append(
            f"it is more than {stage.margin:g} worse than the champion: the upper bound is {seen.difference.upper:.3f}"
        )
    return reasons


def _holding(state: RolloutState, seen: StageEvidence) -> list[str]:
    reasons = [] if seen.held_by is None else [f"{seen.held_by} holds it"]
    if seen.void is not None:
        reasons.append(f"{seen.void} has changed since it was entered, so its evidence is about something else")
    if not seen.split_is_as_stated:
        reasons.append("documents do not reach the variants in the stated shares")
    reasons += [f"{one.name} is {one.measured}" for one in seen.breaches if one.action == "hold"]
    if not reasons and state.status == "held" and seen.resumed_by is None:
        reasons.append(HELD)
    return reasons


def _missing(stage: RolloutStage, seen: StageEvidence) -> list[str]:
    """What the stage has still to show."""
    reasons = []
    if seen.unpublished:
        reasons.append(f"{seen.unpublished} documents of its share are not published yet")
    if seen.documents < stage.least_documents:
        reasons.append(f"{seen.documents} of {stage.least_documents} documents")
    if seen.labels < stage.least_labels:
        reasons.append(f"{seen.labels} of {stage.least_labels} labels")
    if stage.shows == "nothing":
        return reasons
    if seen.difference is None:
        return [*reasons, "no document has a score of both"]
    if stage.shows == "better" and seen.difference.lower <= 0.0:
        reasons.append(f"it is not shown to be better: the lower bound is {seen.difference.lower:.3f}")
    if stage.shows == "not_worse" and seen.difference.lower < -stage.margin:
        reasons.append(
            f"it may still be more than {stage.margin:g} worse: the lower bound is {seen.difference.lower:.3f}"
        )
    return reasons


def _waiting(stage: RolloutStage, seen: StageEvidence) -> list[str]:
    """Whose approval it waits for; a person's second word is not a second person's."""
    counted = {one.by for one in seen.approvals if one.authenticated and (not stage.roles or one.role in stage.roles)}
    if len(counted) >= stage.approvals:
        return []
    whose = f" of {' or '.join(stage.roles)}" if stage.roles else ""
    return [f"{len(counted)} of {stage.approvals} {APPROVALS}{whose}"]


def waits_for_people(reasons: Sequence[str]) -> bool:
    """Whether a decision's reasons are approvals that are missing, and nothing else."""
    return bool(reasons) and all(f" {APPROVALS}" in one for one in reasons)


def _ended(stage: RolloutStage, seen: StageEvidence) -> list[str]:
    reasons = []
    if stage.longest_hours is not None and seen.hours >= stage.longest_hours:
        reasons.append(f"the stage took {seen.hours:g} of at most {stage.longest_hours:g} hours")
    # Nothing is asked that may go beyond a budget, so what is spent seldom meets it.
    rest = ", and the rest pays for no further document" if seen.exhausted else ""
    if stage.budget_usd is not None and (seen.exhausted or seen.spent_usd >= stage.budget_usd):
        reasons.append(f"the stage cost {seen.spent_usd:.2f} of at most {stage.budget_usd:.2f} USD{rest}")
    if stage.budget_tokens is not None and (seen.exhausted or seen.spent_tokens >= stage.budget_tokens):
        reasons.append(f"the stage took {seen.spent_tokens} of at most {stage.budget_tokens} tokens{rest}")
    return reasons


def _shown(stage: RolloutStage, seen: StageEvidence) -> str:
    counts = f"{seen.documents} documents, {seen.labels} labels"
    if stage.shows == "nothing" or seen.difference is None:
        return counts
    wanted = "better" if stage.shows == "better" else f"at most {stage.margin:g} worse"
    return f"{wanted}, lower bound {seen.difference.lower:.3f}; {counts}"


def _ending(state: RolloutState) -> str:
    return "withdrawn" if state.status == "withdrawn" else "the champion"
