"""What a gateway is to do with other clients' requests, as rollouts stand: weights of routes, mirrors, rewrites.

A gateway draws for each request, and the platform for each document, so their shares agree and their choices do not.
What a prompt makes of a challenger no gateway can see: it knows models and adapters only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llm_platform.errors import SpecificationError
from llm_platform.operations.live import live_rollouts
from llm_platform.records import Release
from llm_platform.rollout.routing import LiveShare, expected_shares
from llm_platform.warehouse.store import ApplicationStore

WHOLE = 10_000
"""Weights add up to it, so that a share of one in ten thousand is told."""


@dataclass(frozen=True)
class GatewayShares:
    """How a rollout is told to a gateway.

    Attributes:
        entries: Lock entry → weight, of what publishes.
        mirror: Entry of a shadow that no client gets an answer of; None without one.
        models: Served name → weight, where all of it is one entry and adapters on it; empty otherwise.
    """

    entries: Mapping[str, int]
    mirror: str | None
    models: Mapping[str, int]


def gateway_shares(store: ApplicationStore) -> GatewayShares:
    """Weights and mirror of an application's rollouts as they are now.

    Raises:
        SpecificationError: nothing serves, so there is nothing to route.
    """
    live = live_rollouts(store)
    champion = None if live.champion is None else store.releases.get(live.champion.release_id)
    if champion is None:
        raise SpecificationError(f"{store.name} has no champion, so there is nothing that a gateway could route.")
    shares = expected_shares([LiveShare(rollout_id=one.rollout_id, share=one.share) for one in live.routes])
    releases: dict[str | None, Release] = {None: champion}
    for one in live.challengers:
        found = store.releases.get(one.release_id)
        if found is not None:
            releases[one.rollout_id] = found
    entries: dict[str, float] = {}
    models: dict[str, float] = {}
    for rollout_id in [None, *(one.rollout_id for one in live.routes)]:
        release = releases[rollout_id]
        entries[release.model.entry] = entries.get(release.model.entry, 0.0) + shares[rollout_id]
        models[release.served_name] = models.get(release.served_name, 0.0) + shares[rollout_id]
    shadows = [
        releases[one.rollout_id].model.entry
        for one in live.challengers
        if one.stage.stage == "shadow" and one.asks and releases[one.rollout_id].model.entry not in entries
    ]
    one_pool = len(entries) == 1 and len(models) > 1
    return GatewayShares(
        entries=_weights(entries),
        mirror=shadows[0] if shadows else None,
        models=_weights(models) if one_pool else {},
    )


def _weights(shares: Mapping[str, float]) -> dict[str, int]:
    """Whole weights that add up to `WHOLE`; what is lost by rounding goes where most of it was lost."""
    floors = {name: math.floor(share * WHOLE + 1e-9) for name, share in shares.items()}
    left = WHOLE - sum(floors.values())
    by_loss = sorted(shares, key=lambda name: (floors[name] - shares[name] * WHOLE, name))
    return {name: floor + (name in by_loss[:left]) for name, floor in floors.items()}
