"""An HTTPRoute over several models: shares of requests, and a mirror that answers nobody.

For clients other than this platform. Its own runs and its service for online callers decide by document which release
answers, and store what a shadow says (docs/rollout.md); a gateway draws for each request, and keeps nothing. The
operator's own route knows one backend and no weights.

Source: Kubernetes Gateway API 1.4, `gateway.networking.k8s.io/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.names import OWNER_LABEL
from llm_platform.nim.manifests.pods import PORT, Manifest, PodSettings

MAX_BACKENDS = 16
MAX_WEIGHT = 1_000_000


@dataclass(frozen=True)
class Gateway:
    """The gateway that a route hangs on; `hostname` None takes every name that it listens for."""

    name: str
    namespace: str
    hostname: str | None = None


def route_object(
    name: str, weights: Mapping[str, int], *, gateway: Gateway, pods: PodSettings, mirror: str | None = None
) -> Manifest:
    """An HTTPRoute that shares requests between services.

    Args:
        name: Of the route.
        weights: Service → weight; a service's share is its weight over their sum.
        gateway: Where requests come in.
        pods: Says in which namespace the services are.
        mirror: Service that gets a copy of every request; its answers are dropped.

    Raises:
        SpecificationError: no service gets a request, a weight is impossible, or a service would mirror itself.
    """
    _require_sense(name, weights, mirror)
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
        "backendRefs": [{"name": service, "port": PORT, "weight": weight} for service, weight in weights.items()],
        # An answer may take minutes; the client has a deadline of its own.
        "timeouts": {"request": "0s"},
    }
    if mirror is not None:
        backend = {"name": mirror, "port": PORT}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": backend}}]
    spec: Manifest = {"parentRefs": [{"name": gateway.name, "namespace": gateway.namespace}], "rules": [rule]}
    if gateway.hostname is not None:
        spec["hostnames"] = [gateway.hostname]
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "llm-platform", OWNER_LABEL: pods.owner}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": pods.namespace, "labels": labels},
        "spec": spec,
    }


def _require_sense(name: str, weights: Mapping[str, int], mirror: str | None) -> None:
    impossible = {service: weight for service, weight in weights.items() if not 0 <= weight <= MAX_WEIGHT}
    if impossible:
        raise SpecificationError(f"Route {name!r}: weights are 0 to {MAX_WEIGHT}; found {impossible}.")
    if not any(weights.values()):
        raise SpecificationError(f"Route {name!r} sends no request anywhere: give one service a weight above 0.")
    if len(weights) > MAX_BACKENDS:
        raise SpecificationError(f"Route {name!r} has {len(weights)} services; a rule takes at most {MAX_BACKENDS}.")
    if mirror is not None and weights.get(mirror):
        raise SpecificationError(
            f"Route {name!r} would send {mirror!r} its own requests twice. Mirror to a service without a weight."
        )
