"""Who answers an online caller: the same stored decisions that publish the batch's answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from llm_platform.operations.releases import LoadedApplication, champion_release, requesting
from llm_platform.records import Release
from llm_platform.rollout.routing import LiveShare, place_of, route
from llm_platform.warehouse.store import ApplicationStore

CHAMPION = "champion"


@dataclass(frozen=True)
class Arm:
    """One release that answers.

    Attributes:
        rollout_id: The rollout of a challenger; None for the champion.
        share: Of documents.
        budget_usd: What a shadow may still cost; None for no end.
    """

    variant: str
    release: Release
    rollout_id: str | None = None
    share: float = 1.0
    budget_usd: float | None = None

    @cached_property
    def release_id(self) -> str:
        """Of what callers are told: a hash over the whole release."""
        return self.release.release_id

    @cached_property
    def sender(self) -> Release:
        """The release that sends its requests."""
        return requesting(self.release)

    @cached_property
    def sender_id(self) -> str:
        """Of the release that sends its requests."""
        return self.sender.release_id


@dataclass(frozen=True)
class LiveDecision:
    """Who answers now.

    Attributes:
        canaries: Challengers with a share of what callers get, the oldest first.
        shadows: Challengers that answer after the reply.
    """

    champion: Arm
    canaries: tuple[Arm, ...] = ()
    shadows: tuple[Arm, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All of them."""
        return (self.champion, *self.canaries, *self.shadows)

    def is_shadowed(self, arm: Arm, document_id: str) -> bool:
        """Whether a shadow is to answer a document."""
        return place_of(arm.rollout_id or "", document_id) < arm.share

    def arm_of(self, document_id: str) -> Arm:
        """Whose answer a caller gets."""
        live = [LiveShare(rollout_id=arm.rollout_id or "", share=arm.share) for arm in self.canaries]
        found = route(document_id, live).rollout_id
        return next((arm for arm in self.canaries if arm.rollout_id == found), self.champion)


def live_decision(store: ApplicationStore, loaded: LoadedApplication) -> LiveDecision | None:  # noqa: ARG001
    """The present decision; None before anything was promoted."""
    event = store.rollout.champion()
    release = champion_release(store)
    if event is None or release is None:
        return None
    return LiveDecision(Arm(event.variant, release))
