"""An InferenceModelRewrite: shares of requests between a base model and adapters that one pool of pods serves.

An HTTPRoute shares requests between services and cannot tell two models of one service apart; this one rewrites the
name of the model in a request, and its share is that of requests, not of documents.

Source: Gateway API Inference Extension 1.2.1, `inference.networking.x-k8s.io/v1alpha2`.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.names import OWNER_LABEL
from llm_platform.nim.manifests.pods import Manifest, PodSettings
from llm_platform.nim.manifests.routes import MAX_WEIGHT


def rewrite_object(name: str, weights: Mapping[str, int], *, asked: str, pool: str, pods: PodSettings) -> Manifest:
    """An InferenceModelRewrite that shares the requests for one name between names that a pool serves.

    Args:
        name: Of the object.
        weights: Served name → weight.
        asked: The name that clients ask for.
        pool: InferencePool of the pods.
        pods: Says in which namespace they are.

    Raises:
        SpecificationError: no name gets a request, or a weight is impossible.
    """
    impossible = {served: weight for served, weight in weights.items() if not 1 <= weight <= MAX_WEIGHT}
    if impossible or not weights:
        raise SpecificationError(f"Rewrite {name!r}: weights are 1 to {MAX_WEIGHT}; found {impossible or 'none'}.")
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "llm-platform", OWNER_LABEL: pods.owner}
    return {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": name, "namespace": pods.namespace, "labels": labels},
        "spec": {
            "poolRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool},
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": asked}}],
                    "targets": [{"modelRewrite": served, "weight": weight} for served, weight in weights.items()],
                }
            ],
        },
    }
