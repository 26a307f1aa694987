"""llm-d's InferenceModelRewrite: shares of requests between adapters of one base, by the name that a request carries.

A route chooses between services and cannot see which adapter a request names; this is done by the scheduler in front of
one pool of engines, which all serve the base and its adapters.

Source: llm-d router 0.9, `llm-d.ai/v1alpha2`; before that `inference.networking.x-k8s.io/v1alpha2` of the Gateway API
Inference Extension, with the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.names import OWNER_LABEL
from llm_platform.nim.manifests.pods import Manifest, PodSettings
from llm_platform.nim.manifests.routes import MAX_BACKENDS, MAX_WEIGHT

POOL_GROUP = "inference.networking.k8s.io"


def rewrite_object(name: str, model: str, weights: Mapping[str, int], *, pool: str, pods: PodSettings) -> Manifest:
    """An object by which requests that name `model` reach the base or one of its adapters.

    Args:
        name: Of the object.
        model: What clients ask for.
        weights: Name that the engines serve → weight; its share is its weight over their sum.
        pool: InferencePool of the engines.
        pods: Says in which namespace the pool is.

    Raises:
        SpecificationError: there is nothing to share, or a weight is impossible.
    """
    given = {served: weight for served, weight in weights.items() if weight}
    impossible = {served: weight for served, weight in given.items() if not 0 < weight <= MAX_WEIGHT}
    if impossible or not 0 < len(given) <= MAX_BACKENDS:
        raise SpecificationError(
            f"Rewrite {name!r}: it takes 1 to {MAX_BACKENDS} names with weights up to {MAX_WEIGHT}; found {weights}."
        )
    targets = [{"modelRewrite": served, "weight": weight} for served, weight in given.items()]
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {
            "name": name,
            "namespace": pods.namespace,
            "labels": {
                "app.kubernetes.io/name": name,
                "app.kubernetes.io/part-of": "llm-platform",
                OWNER_LABEL: pods.owner,
            },
        },
        "spec": {
            "poolRef": {"group": POOL_GROUP, "kind": "InferencePool", "name": pool},
            "rules": [{"matches": [{"model": {"type": "Exact", "value": model}}], "targets": targets}],
        },
    }
