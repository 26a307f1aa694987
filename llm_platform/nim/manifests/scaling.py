"""How many replicas: by requests that run and wait, under the names that the dialect gives them.

A queue is what a NIM has instead of refusals, so both count: what runs says that a replica is full, what waits by how
much. A 1.x NIM on TensorRT-LLM with several GPUs publishes neither, and cannot be scaled this way.

Source: Kubernetes autoscaling/v2; KEDA 2.17, `keda.sh/v1alpha1`.
"""

from __future__ import annotations

from llm_platform.nim.dialects import form
from llm_platform.nim.manifests.names import derived_name, label_value, metadata
from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel

QUEUE = ("running", "waiting")
SETTLE_SECONDS = 600
"""A replica takes minutes to come, so one is not sent away for a short lull."""


def queue_metrics(model: ServedModel) -> list[str]:
    """Names under which an endpoint publishes its running and its waiting requests."""
    names = form(model.dialect).metrics.numbers
    return [name for name, meaning in names.items() if meaning in QUEUE]


def queue_query(model: ServedModel, pods: PodSettings) -> str:
    """PromQL: requests that run or wait, over all replicas of a model."""
    names = "|".join(queue_metrics(model))
    return f'sum({{__name__=~"{names}",namespace="{pods.namespace}",entry="{label_value(model.name)}"}})'


def behavior() -> Manifest:
    """How fast replicas come and go."""
    one = {"type": "Pods", "value": 1, "periodSeconds": 60}
    return {
        "scaleUp": {"policies": [{**one, "value": 2}]},
        "scaleDown": {"stabilizationWindowSeconds": SETTLE_SECONDS, "policies": [one]},
    }


def hpa_spec(model: ServedModel, pods: PodSettings) -> Manifest:
    """Bounds, metrics and behaviour of a HorizontalPodAutoscaler, as a NIMService takes them, too.

    Each metric is an average over pods; the one that asks for more replicas counts.
    """
    scaling = pods.autoscaling
    target = {"type": "AverageValue", "averageValue": str(scaling.target(model.slots))}
    return {
        "minReplicas": scaling.minimum,
        "maxReplicas": scaling.maximum,
        "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": name}, "target": dict(target)}}
            for name in queue_metrics(model)
        ],
        "behavior": behavior(),
    }


def horizontal_autoscaler(model: ServedModel, pods: PodSettings) -> Manifest:
    """The HorizontalPodAutoscaler of a Deployment of our own; a NIM's is made by the operator."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.service}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(model, pods),
        "spec": {"scaleTargetRef": target, **hpa_spec(model, pods)},
    }


def scaled_object(model: ServedModel, pods: PodSettings) -> Manifest:
    """KEDA's ScaledObject of a model's Deployment; the operator's has the name of the NIMService, too.

    Where Prometheus does not answer, replicas stay as they are. So they do where it knows nothing of a model that has
    replicas at all times: a scrape that fails must not look like an empty queue. At zero there is nothing to know.
    """
    scaling = pods.autoscaling
    triggers = [_trigger("queue", queue_query(model, pods), model, pods, may_be_empty=scaling.minimum == 0)]
    if scaling.demand_query:
        triggers.append(_trigger("demand", scaling.demand_query, model, pods, may_be_empty=True))
    # KEDA's own name for its HPA may be too long; the name of the NIMService is one that the operator deletes.
    autoscaler = {"name": derived_name(model.service, "keda"), "behavior": behavior()}
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.service},
        "minReplicaCount": scaling.minimum,
        "maxReplicaCount": scaling.maximum,
        "pollingInterval": 15,
        "cooldownPeriod": scaling.idle_seconds,
        "fallback": {
            "failureThreshold": 3,
            "replicas": scaling.minimum,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": autoscaler},
        "triggers": triggers,
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(model, pods),
        "spec": spec,
    }


def _trigger(name: str, query: str, model: ServedModel, pods: PodSettings, *, may_be_empty: bool) -> Manifest:
    # KEDA reads every value as text.
    values = {
        "serverAddress": pods.autoscaling.prometheus_url,
        "query": query,
        "threshold": str(pods.autoscaling.target(model.slots)),
        "activationThreshold": "0",
        "ignoreNullValues": "true" if may_be_empty else "false",
    }
    return {"type": "prometheus", "name": name, "metricType": "AverageValue", "metadata": values}
