"""What a rollout's stages must show before the next one, as an application states it."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llm_platform.records.base import Record

StageKind = Literal["shadow", "canary", "champion"]
Showing = Literal["nothing", "not_worse", "better"]
Action = Literal["withdraw", "hold", "alert"]
ApproverRole = Annotated[str, Field(min_length=1)]


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
        budget_usd: What a shadow may cost; once it is spent, the stage ends as one that took too long does.
    """

    stage: StageKind
    share: float = Field(gt=0.0, le=1.0)
    shows: Showing = "not_worse"
    margin: float = Field(default=0.0, ge=0.0, le=1.0)
    least_documents: int = Field(default=0, ge=0)
    least_labels: int = Field(default=0, ge=0)
    longest_hours: float | None = Field(default=None, gt=0.0)
    then: Literal["withdraw", "hold"] = "withdraw"
    approvals: Literal[0, 1, 2] = 0
    roles: tuple[ApproverRole, ...] = ()
    budget_usd: float | None = Field(default=None, gt=0.0)


class RolloutPolicy(Record):
    """The stages of an application's rollouts, in their order.

    Attributes:
        dry_run: Decide and report, and change nothing.
    """

    stages: tuple[RolloutStage, ...]
    dry_run: bool = False

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        kinds = [stage.stage for stage in self.stages]
        order = [kind for kind, _ in itertools.groupby(kinds)]
        if order not in (
            ["champion"],
            ["canary", "champion"],
            ["shadow", "champion"],
            ["shadow", "canary", "champion"],
        ):
            raise ValueError(
                f"stages are {', '.join(kinds) or 'none'}; state shadow stages first, then canaries, then one champion"
            )
        if kinds.count("champion") > 1 or self.stages[-1].share != 1.0:
            raise ValueError("the last stage is the one champion, with a share of 1")
        shares = [stage.share for stage in self.stages if stage.stage == "canary"]
        if any(later <= earlier for earlier, later in itertools.pairwise(shares)) or 1.0 in shares:
            raise ValueError(f"canary shares are {shares}; each must be larger than the one before, and smaller than 1")
        for stage in self.stages[:-1]:
            if stage.roles and not stage.approvals:
                raise ValueError(
                    f"stage {stage.stage} {stage.share:g} names roles of approvers and asks for no approval"
                )
        return self
