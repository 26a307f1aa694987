"""Who reaches a model's pods, whom they reach (nobody), and how many may be away at once."""

from __future__ import annotations

from llm_platform.nim.manifests.names import metadata, pods_service, selector
from llm_platform.nim.manifests.pods import PORT, Manifest, PodSettings, ServedModel

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes itself puts the name of a namespace into this label."""


def network_policy(model: ServedModel, pods: PodSettings) -> Manifest:
    """No connection out of a serving pod, and connections in from namespaces that have a reason.

    Not even names are looked up: weights and adapters are on a volume, and the processes of one replica talk within
    their pod, which no policy sees. The download's pods do not have the label, and reach the registry.
    """
    welcome = {*pods.client_namespaces, pods.monitoring_namespace}
    if model.is_nim:
        welcome.add(pods.operator_namespace)
    named = {"key": NAMESPACE_LABEL, "operator": "In", "values": sorted(welcome)}
    entrance = {
        "from": [{"namespaceSelector": {"matchExpressions": [named]}}],
        "ports": [{"protocol": "TCP", "port": PORT}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(model, pods),
        "spec": {
            "podSelector": {"matchLabels": selector(model)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [entrance],
            "egress": [],
        },
    }


def headless_service(model: ServedModel, pods: PodSettings) -> Manifest:
    """A service whose addresses are the ready pods: what asks in bulk sees the queue of each replica by itself."""
    ports = [{"name": "api", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(model, pods, pods_service(model.service)),
        "spec": {"clusterIP": "None", "selector": selector(model), "ports": ports},
    }


def disruption_budget(model: ServedModel, pods: PodSettings) -> Manifest:
    """At most one replica is away at a time when nodes are drained.

    Counted by absence: a minimum present would keep a node with the only replica from ever being drained. A pod that
    does not serve anyway may always go.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(model, pods),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(model)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
