"""What a gateway needs to follow a rollout: shares and mirrors, from the same rows that route documents.

A gateway draws for every request anew, and knows neither documents nor prompts: it shares the requests of clients that
bring their own. Who wants a document answered by its variant, once, asks `llm-platform serve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.manifests.pods import Manifest
from llm_platform.nim.manifests.rewrites import rewrite_object
from llm_platform.operations.live import LiveRollouts
from llm_platform.operations.serving.pods import route_of
from llm_platform.operations.serving.serving import Serving
from llm_platform.records import Release
from llm_platform.rollout.routing import LiveShare, expected_shares
from llm_platform.warehouse.store import ApplicationStore

WHOLE = 10_000
"""Weights of all variants together: shares of a hundredth of a percent are told apart."""


@dataclass(frozen=True)
class GatewayObjects:
    """Objects, and what of the rollout they do not say.

    Attributes:
        left_out: Each a sentence.
    """

    objects: tuple[Manifest, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Target:
    """Where requests for a release go: an entry's endpoints, and the name that they serve it under."""

    entry: str
    served_name: str


def gateway_objects(
    store: ApplicationStore,
    live: LiveRollouts,
    *,
    lock: Mapping[str, LockEntry],
    serving: Serving,
    name: str | None = None,
    hostname: str | None = None,
    pool: str | None = None,
) -> GatewayObjects:
    """An HTTPRoute over the models of the champion and its challengers; over adapters of one base a rewrite.

    Args:
        store: Has the releases.
        live: Who answers now.
        lock: Every entry by name.
        name: Of the object; None: that of the application.
        hostname: Name that clients ask; for a route.
        pool: InferencePool of the base; None: the name of its service.

    Raises:
        EvidenceMissing: nothing serves yet.
        SpecificationError: a release's model is in the lock file no more, or no one object can share the requests.
    """
    if live.champion is None:
        raise EvidenceMissing(
            f"{store.name} has no champion, so there is nothing to share requests between. Promote a variant first: "
            f"llm-platform promote {store.name} VARIANT"
        )
    called = name or store.name.replace("_", "-")
    weights = _weights(store, live, lock)
    mirrors = _mirrors(store, live, lock)
    entries = {target.entry for target in weights}
    names = {target.served_name for target in weights}
    if len(entries) == 1 and (len(names) > 1 or _has_adapter(weights, lock)):
        return _rewrite(store.name, called, weights, mirrors, lock=lock, serving=serving, pool=pool)
    if len(names) > 1:
        raise SpecificationError(
            f"The variants of {store.name} are served by {', '.join(sorted(entries))} under several names "
            f"({', '.join(sorted(names))}). A gateway shares requests between services of one name, or between "
            "adapters of one base. Serve them under one 'served_name', or ask llm-platform serve."
        )
    return _route(store.name, called, weights, mirrors, lock=lock, serving=serving, hostname=hostname)


def _weights(store: ApplicationStore, live: LiveRollouts, lock: Mapping[str, LockEntry]) -> dict[_Target, int]:
    """Target → weight; releases that differ in what a gateway cannot see, such as the prompt, are one."""
    assert live.champion is not None  # looked at by the caller
    shares = expected_shares([LiveShare(rollout_id=one.rollout_id, share=one.share) for one in live.routes])
    releases: dict[str | None, str] = {None: live.champion.release_id}
    releases |= {one.rollout_id: one.release_id for one in live.routes}
    exact: dict[_Target, float] = {}
    for rollout_id, release_id in releases.items():
        target = _target(store, release_id, lock)
        exact[target] = exact.get(target, 0.0) + shares[rollout_id]
    return {target: round(WHOLE * share) for target, share in exact.items()}


def _mirrors(store: ApplicationStore, live: LiveRollouts, lock: Mapping[str, LockEntry]) -> dict[_Target, float]:
    shadows = [one for one in live.challengers if not one.publishes and one.asks]
    return {_target(store, one.release_id, lock): one.stage.share for one in shadows}


def _target(store: ApplicationStore, release_id: str, lock: Mapping[str, LockEntry]) -> _Target:
    release: Release | None = store.releases.get(release_id)
    if release is None or release.model.entry not in lock:
        entry = "unknown" if release is None else release.model.entry
        raise SpecificationError(
            f"Release {release_id} of {store.name} is answered by {entry!r}, which models.lock.yaml does not have. "
            "Bring the entry back, or promote a variant that has one."
        )
    return _Target(release.model.entry, release.served_name)


def _has_adapter(weights: Mapping[_Target, int], lock: Mapping[str, LockEntry]) -> bool:
    return any(target.served_name != lock[target.entry].served_name for target in weights)


def _rewrite(
    application: str,
    name: str,
    weights: Mapping[_Target, int],
    mirrors: Mapping[_Target, float],
    *,
    lock: Mapping[str, LockEntry],
    serving: Serving,
    pool: str | None,
) -> GatewayObjects:
    entry = lock[next(iter(weights)).entry]
    shares = {target.served_name: weight for target, weight in weights.items()}
    found = rewrite_object(name, application, shares, pool=pool or entry.service_name, pods=serving.required_pods())
    left_out = [
        f"the shadow {target.served_name!r}: an InferenceModelRewrite copies no requests; llm-platform serve asks it"
        for target in mirrors
    ]
    return GatewayObjects((found,), tuple(left_out))


def _route(
    application: str,
    name: str,
    weights: Mapping[_Target, int],
    mirrors: Mapping[_Target, float],
    *,
    lock: Mapping[str, LockEntry],
    serving: Serving,
    hostname: str | None,
) -> GatewayObjects:
    shares = {target.entry: weight for target, weight in weights.items()}
    served = {target.served_name for target in weights}
    copied = {
        target.entry: share
        for target, share in mirrors.items()
        if target.entry not in shares and target.served_name in served
    }
    left_out = [
        f"the shadow on {target.entry!r}: its requests would reach what answers already, or another name than clients "
        f"ask for; llm-platform serve asks it with the prompt of {application}"
        for target in mirrors
        if target.entry not in copied
    ]
    found = route_of(name, shares, lock=lock, serving=serving, mirrors=copied, hostname=hostname)
    return GatewayObjects((found,), tuple(left_out))
