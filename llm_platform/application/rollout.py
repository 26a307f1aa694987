"""Who decides what is published, and the stages that a challenger goes through."""

from __future__ import annotations

from typing import Literal

from llm_platform.application.specification import Specification
from llm_platform.records.rollout import OnChampionFailure, RolloutGuards, RolloutPolicy, RolloutStage


class Rollout(Specification):
    """Who decides what is published, and how a challenger comes into use.

    Attributes:
        first_champion: `automatic` lets the best passing variant become the first champion; every later change is a
            `promote`, or goes through the stages.
        stages: Of every rollout, in their order; none where a change is a `promote`.
        dry_run: Rollouts decide and report, and change nothing.
        guards: Limits that champion and challengers are held to, and what is done beyond them.
        on_champion_failure: What is done when the champion falls below its gates or guards: publish nothing new, go
            back to what served before, or publish and say so.
    """

    first_champion: Literal["automatic", "manual"] = "automatic"
    stages: tuple[RolloutStage, ...] = ()
    dry_run: bool = False
    guards: RolloutGuards = RolloutGuards()
    on_champion_failure: OnChampionFailure = "hold"

    @property
    def is_watched(self) -> bool:
        """Whether there is anything that a look could decide without a person."""
        return bool(self.stages) or self.guards != RolloutGuards() or self.on_champion_failure != "hold"

    @property
    def policy(self) -> RolloutPolicy | None:
        """The stages as rollouts go by them; None where none are stated."""
        return RolloutPolicy(stages=self.stages, dry_run=self.dry_run) if self.stages else None
