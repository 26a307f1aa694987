"""Where pods may run, what they ask of a node, and when they count as started."""

from __future__ import annotations

from typing import Any

from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel

PROBE_SECONDS = 10


def resources(model: ServedModel, pods: PodSettings) -> Manifest:
    """Requests and limits of a replica. Memory has no limit: how much a start takes is known to nobody before."""
    gpus = {pods.gpu_resource: str(model.gpus)}
    return {"requests": {"cpu": pods.cpu, "memory": pods.memory, **gpus}, "limits": gpus}


def tolerations(pods: PodSettings) -> list[Manifest]:
    """Taints that keep other pods from GPU nodes."""
    return [{"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in pods.tolerated_taints]


def affinity(pods: PodSettings) -> Manifest:
    """Labels of the node, as affinity: the operator writes a `nodeSelector` unquoted, so that 'true' is no text."""
    wanted = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(pods.node_labels.items())]
    required = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def placement(pods: PodSettings) -> Manifest:
    """Fields of a pod, or of a NIMService, that say where it may run; only those that say something."""
    fields: dict[str, Any] = {}
    if pods.node_labels:
        fields["affinity"] = affinity(pods)
    if pods.tolerated_taints:
        fields["tolerations"] = tolerations(pods)
    if pods.priority_class:
        fields["priorityClassName"] = pods.priority_class
    return fields


def started_probe(path: str, pods: PodSettings) -> Manifest:
    """A probe that gives a replica its time to read weights before anything else looks at it."""
    return {
        "httpGet": {"path": path, "port": "api"},
        "periodSeconds": PROBE_SECONDS,
        "timeoutSeconds": 5,
        "failureThreshold": max(1, pods.start_seconds // PROBE_SECONDS),
    }
