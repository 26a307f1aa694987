"""Who answers an online caller: the same stored decisions that route the published table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from llm_platform.inference.parts import parts_release, together_release
from llm_platform.operations.live import LiveRollouts, live_rollouts
from llm_platform.operations.release.observing import stage_budget
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.records import Release
from llm_platform.warehouse.store import ApplicationStore

Key = tuple[str, str | None]


@dataclass(frozen=True)
class Arm:
    """One release that answers.

    Attributes:
        shadow: Its rollout, where nobody gets its answers.
        budget_tokens, budget_usd: What a shadow may still take, as far as is on record; None for no end.
    """

    variant: str
    release: Release
    shadow: str | None = None
    budget_tokens: int | None = None
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

    @cached_property
    def key(self) -> Key:
        """Equal for arms that are asked together: a shadow has a budget of its own."""
        return self.sender_id, self.shadow

    @cached_property
    def parts(self) -> Release | None:
        """What asks callers' long documents in parts; None where nothing does."""
        rules = self.sender.long_documents
        is_split = rules is not None and rules.policy == "split" and self.shadow is None
        return parts_release(self.sender) if is_split else None

    @cached_property
    def together(self) -> Release | None:
        """What makes one answer of those to the parts; None where rules do."""
        return None if self.parts is None else together_release(self.sender)

    @cached_property
    def senders(self) -> dict[Key, Release]:
        """All that send requests for it, by their keys."""
        helpers = [one for one in (self.parts, self.together) if one is not None]
        return {self.key: self.sender, **{self.key_of(one): one for one in helpers}}

    def key_of(self, helper: Release) -> Key:
        """Of a release that only serves this one."""
        return helper.release_id, self.shadow


@dataclass(frozen=True)
class LiveDecision:
    """Who answers now.

    Attributes:
        arms: Release → its arm: the champion's, and those of challengers.
    """

    rollouts: LiveRollouts
    arms: Mapping[str, Arm]

    @cached_property
    def champion(self) -> Arm:
        """Whose answer every document gets that no challenger has."""
        assert self.rollouts.champion is not None  # no decision is made without one
        return self.arms[self.rollouts.champion.release_id]

    def arm_of(self, document_id: str) -> Arm:
        """Whose answer a caller gets."""
        chosen = self.rollouts.variant_of(document_id)
        return self.champion if chosen is None else self.arms.get(chosen.release_id, self.champion)

    def shadows_of(self, document_id: str) -> list[Arm]:
        """Who answers a document after the reply."""
        found = (self.arms.get(one.release_id) for one in self.rollouts.shadows_of(document_id))
        return [arm for arm in found if arm is not None]


def live_decision(store: ApplicationStore, loaded: LoadedApplication) -> LiveDecision | None:
    """The present decision; None before anything was promoted."""
    rollouts = live_rollouts(store)
    champion = rollouts.champion
    release = None if champion is None else store.releases.get(champion.release_id)
    if champion is None or release is None:
        return None
    arms = {champion.release_id: Arm(champion.variant, release)}
    for one in rollouts.challengers:
        found = store.releases.get(one.release_id) if one.asks else None
        if found is None or one.release_id in arms:
            continue
        if one.publishes:
            arms[one.release_id] = Arm(one.variant, found)
        else:
            tokens, usd = stage_budget(store, loaded, store.rollout_steps.of(one.rollout_id), found)
            arms[one.release_id] = Arm(one.variant, found, shadow=one.rollout_id, budget_tokens=tokens, budget_usd=usd)
    return LiveDecision(rollouts, arms)
