"""How challengers come into use, as an application states it, and what was decided of them."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_platform.records.base import Record, content_hash
from llm_platform.records.review import ReviewRole

StageKind = Literal["shadow", "canary", "champion"]
Showing = Literal["nothing", "not_worse", "better"]
Action = Literal["withdraw", "hold", "alert"]
OnChampionFailure = Literal["hold", "rollback", "publish_and_alert"]
RolloutStatus = Literal["running", "held", "withdrawn", "champion"]
RolloutDecision = Literal["promote", "withdraw", "inconclusive", "hold"]
StepKind = Literal["start", "approve", "hold", "resume", "withdraw", "decide"]

STAGE_ORDER: tuple[StageKind, ...] = ("shadow", "canary", "champion")


class RolloutStage(Record):
    """One stage, and what a challenger must show on it to leave it for the next.

    Attributes:
        stage: `shadow` answers and publishes nothing; `canary` publishes a share of documents.
        share: Of documents that the challenger answers; 1 for the champion.
        shows: `better`: the interval of the difference lies above zero; `not_worse`: above -`margin`; `nothing`.
        margin: How much worse than the champion it may be; shown to be worse than that, it is withdrawn.
        least_documents, least_labels: Before them nothing is promoted.
        longest_hours: After them a stage that has not shown what it must ends, by `then`. None for no end.
        then: What ends a stage that took too long.
        approvals: How many people must approve the next stage.
        roles: Whose approval counts; empty for everybody's who is authenticated.
        budget_usd, budget_tokens: What a shadow may cost; it asks nothing more once that is spent, and ends as a stage
            that took too long does.
    """

    stage: StageKind
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    shows: Showing = "not_worse"
    margin: float = Field(default=0.0, ge=0.0, le=1.0)
    least_documents: int = Field(default=0, ge=0)
    least_labels: int = Field(default=0, ge=0)
    longest_hours: float | None = Field(default=None, gt=0.0)
    then: Literal["withdraw", "hold"] = "withdraw"
    approvals: Literal[0, 1, 2] = 0
    roles: tuple[ReviewRole, ...] = ()
    budget_usd: float | None = Field(default=None, gt=0.0)
    budget_tokens: int | None = Field(default=None, ge=1)

    @property
    def name(self) -> str:
        """`canary 5 %`."""
        return "champion" if self.stage == "champion" else f"{self.stage} {self.share:.4g}"


class RolloutPolicy(Record):
    """The stages of an application's rollouts, in their order.

    Attributes:
        dry_run: Decide and report, and change nothing.
    """

    stages: tuple[RolloutStage, ...]
    dry_run: bool = False

    @property
    def hash(self) -> str:
        """Identity of what it says."""
        return content_hash(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        mistakes = stage_mistakes([(one.stage, one.share) for one in self.stages])
        if mistakes:
            raise ValueError("; ".join(text for _, text in mistakes))
        for stage in self.stages[:-1]:
            if stage.roles and not stage.approvals:
                raise ValueError(
                    f"stage {stage.stage} {stage.share:g} names roles of approvers and asks for no approval"
                )
        return self


def stage_mistakes(stages: list[tuple[StageKind, float]]) -> list[tuple[int | None, str]]:
    """What is wrong with the order of stages and their shares: place in the list (None for the whole), and what."""
    kinds = [kind for kind, _ in stages]
    if not kinds or kinds[-1] != "champion" or len(kinds) < 2:
        return [(None, f"stages {', '.join(kinds) or 'none'}; the last of at least two is 'champion'")]
    found: list[tuple[int | None, str]] = []
    for at, (before, kind) in enumerate(itertools.pairwise(kinds), start=1):
        if STAGE_ORDER.index(kind) < STAGE_ORDER.index(before) or before == "champion":
            found.append((at, f"stage {kind!r} after {before!r}; shadows come first, then canaries, then one champion"))
    if stages[-1][1] != 1.0:
        found.append((len(stages) - 1, f"a champion with a share of {stages[-1][1]:g}; it has all documents"))
    reached = 0.0
    for at, (kind, share) in enumerate(stages):
        if kind != "canary":
            continue
        if share >= 1.0 or share <= reached:
            found.append((at, f"a canary with a share of {share:g}; it is above {reached:g} and below 1"))
        reached = max(reached, share)
    return found


class FloorGuard(Record):
    """A minimum that what serves, or may, must not fall below; what is done then, and why it is that minimum.

    Attributes:
        documents: Before so many it says nothing.
    """

    minimum: float = Field(ge=0.0, le=1.0)
    action: Action
    documents: int = Field(default=20, ge=1)
    reason: str = Field(min_length=10)


class CeilingGuard(Record):
    """A maximum that what serves, or may, must not exceed; what is done then, and why it is that maximum.

    Attributes:
        documents: Before so many it says nothing.
    """

    maximum: float = Field(ge=0.0)
    action: Action
    documents: int = Field(default=20, ge=1)
    reason: str = Field(min_length=10)


class DriftGuard(Record):
    """What is done once documents or answers have drifted; their limits stand in `monitoring.drift`."""

    action: Action
    reason: str = Field(min_length=10)


class RolloutGuards(Record):
    """Limits that champion and challengers are held to at every look, without a person.

    Attributes:
        valid_rate: Share of answers that are of the task's form.
        error_rate: Share of documents whose request failed.
        p95_latency_seconds: 19 of 20 answers take no longer.
        cost_usd_per_document: Mean, at the prices of the lock entry.
        drift: Of documents and answers; of the champion.
        live_accuracy: Of answers to live documents that were drawn for labelling; of the champion.
    """

    valid_rate: FloorGuard | None = None
    error_rate: CeilingGuard | None = None
    p95_latency_seconds: CeilingGuard | None = None
    cost_usd_per_document: CeilingGuard | None = None
    drift: DriftGuard | None = None
    live_accuracy: FloorGuard | None = None


class Route(Record):
    """A challenger that publishes a share of documents: those for which its rollout draws a number below the share."""

    rollout_id: str
    variant: str
    release_id: str
    share: float


class AskedShare(Record):
    """The documents of a rollout's share."""

    rollout_id: str
    share: float


class AskedDocuments(Record):
    """Documents that a release is asked about, where that is not all of them.

    Attributes:
        known: Those with a known answer, by which it is judged.
        shares: Those of these shares.
    """

    known: bool = False
    shares: tuple[AskedShare, ...] = ()


class RolloutStep(Record):
    """One append-only row of `rollout_steps`: what somebody asked of a challenger, or what was decided.

    Attributes:
        kind: `decide` for a decision, else what a person asked for; the next decision goes by it.
        variant: Of the application's file, for people; the release is what it was when it was entered.
        champion_release_id: What it is held against.
        stage, status: After this row. A row that asks for something changes neither.
        stage_name: `shadow 0.5`, `canary 0.05`.
        share: Of documents that the challenger answers at that stage.
        decision, reasons: Of a `decide`.
        applied: False where the policy is a dry run.
        evidence: What was observed, as JSON of `rollout.decision.StageEvidence`; None where a person asked.
        underneath: What the evidence is about, name → hash, as JSON: where one of them moves, the evidence is void.
        policy: As the file said when it was entered, as JSON.
        report_id, evaluation_id: The report that the decision rests on.
        by, role: Who; `authenticated` where a token says so.
        git_commit: Of the code that decided.
        spent_usd, spent_tokens: By the challenger, from its beginning to this row.
        references_snapshot: Snapshot of the lake at which it was entered.
    """

    application: str
    rollout_id: str
    step_id: str
    kind: StepKind
    variant: str
    release_id: str
    champion_release_id: str
    stage: int = Field(ge=0)
    stage_name: str
    share: float
    status: RolloutStatus
    decision: RolloutDecision | None = None
    reasons: tuple[str, ...] = ()
    applied: bool = True
    evidence: str | None = None
    underneath: str
    policy: str
    policy_hash: str
    report_id: str | None = None
    evaluation_id: str | None = None
    by: str
    role: str | None = None
    authenticated: bool = False
    at: datetime
    git_commit: str = "unknown"
    spent_usd: float | None = None
    spent_tokens: int = 0
    references_snapshot: int | None = None
    note: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is decided of this challenger."""
        return self.status in ("withdrawn", "champion")

    def stages(self) -> RolloutPolicy:
        """The policy that it was entered under."""
        return RolloutPolicy.model_validate_json(self.policy)

    @property
    def decider(self) -> str:
        """Who asked or decided, for people: with a word where nobody vouches for it."""
        return self.by if self.kind == "decide" or self.authenticated else f"{self.by} (not authenticated)"

    @property
    def short_id(self) -> str:
        """For people."""
        return self.rollout_id[:8]
