"""A bare vLLM: no operator runs it, so it is a Deployment and a Service of our own.

It serves weights in Hugging Face layout from `models/<entry>` on the claim, put there by whoever may download.

Source: vLLM 0.23, `vllm serve`.
"""

from __future__ import annotations

from typing import Any

from llm_platform.nim.manifests.adapters import adapter_flags, make_folder, verification, vllm_variables
from llm_platform.nim.manifests.names import metadata, model_labels, selector
from llm_platform.nim.manifests.pods import PORT, STORE, Manifest, PodSettings, ServedModel
from llm_platform.nim.manifests.scheduling import placement, resources, started_probe

HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"
FINISH_SECONDS = 120
"""Requests in flight may end before a pod does."""


def vllm_service(model: ServedModel, pods: PodSettings) -> Manifest:
    """The Service of a bare vLLM; a NIM's is made by the operator."""
    ports = [{"name": "api", "port": PORT, "targetPort": "api", "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(model, pods),
        "spec": {"type": "ClusterIP", "selector": selector(model), "ports": ports},
    }


def vllm_deployment(model: ServedModel, pods: PodSettings) -> Manifest:
    """The Deployment of a bare vLLM."""
    spec: Manifest = {
        "selector": {"matchLabels": selector(model)},
        # No spare GPU for a pod more: one leaves before one comes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "template": {
            "metadata": {"labels": model_labels(model, pods), "annotations": {"prometheus.io/path": METRICS_PATH}},
            "spec": _pod(model, pods),
        },
    }
    if pods.autoscaling.kind == "none":
        spec["replicas"] = pods.autoscaling.replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(model, pods), "spec": spec}


def arguments(model: ServedModel) -> list[str]:
    """Arguments of `vllm serve`."""
    found = [
        f"{STORE}/models/{model.name}",
        f"--served-model-name={model.served_name}",
        f"--port={PORT}",
        f"--max-model-len={model.context_length}",
        f"--tensor-parallel-size={model.tensor}",
        f"--pipeline-parallel-size={model.pipeline}",
    ]
    if model.slots:
        found.append(f"--max-num-seqs={model.slots}")
    return [*found, *(adapter_flags() if model.adapters else [])]


def _pod(model: ServedModel, pods: PodSettings) -> Manifest:
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        # A service that is called `vllm` would set VLLM_PORT to an address, which vLLM reads as a number.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": FINISH_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pods.user_id,
            "runAsGroup": pods.group_id,
            "fsGroup": pods.group_id,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(model, pods)],
        "volumes": [
            {"name": "model-store", "persistentVolumeClaim": {"claimName": pods.claim}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": pods.shared_memory}},
            {"name": "scratch", "emptyDir": {}},
        ],
        **placement(pods),
    }
    if pods.pull_secret:
        pod["imagePullSecrets"] = [{"name": pods.pull_secret}]
    if model.adapters:
        pod["initContainers"] = [_folder_maker(model), *_verifiers(model, pods)]
    return pod


def _container(model: ServedModel, pods: PodSettings) -> Manifest:
    # Images know no user of this id, and PyTorch names the folder of what it compiles after the user: without USER,
    # vLLM ends when it is imported.
    variables = {"HOME": "/tmp", "USER": "vllm", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if model.adapters:
        variables |= vllm_variables(model)
    look = {"httpGet": {"path": HEALTH_PATH, "port": "api"}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {
        "name": "vllm",
        "image": model.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["vllm", "serve"],
        "args": arguments(model),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "ports": [{"name": "api", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources(model, pods),
        "startupProbe": started_probe(HEALTH_PATH, pods),
        "readinessProbe": dict(look),
        "livenessProbe": {**look, "failureThreshold": 3},
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": "model-store", "mountPath": STORE, "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }


def _folder_maker(model: ServedModel) -> Manifest:
    small = {"cpu": "100m", "memory": "64Mi"}
    return {
        "name": "adapters",
        "image": model.image,
        "command": make_folder(model),
        "resources": {"requests": small, "limits": small},
        "securityContext": _confined(),
        "volumeMounts": [{"name": "model-store", "mountPath": STORE}],
    }


def _verifiers(model: ServedModel, pods: PodSettings) -> list[Manifest]:
    """What holds the adapters against their signatures, if anything does: the pod does not start where one fails."""
    found = verification(model, pods)
    if found is None:
        return []
    image, command = found
    small = {"cpu": "500m", "memory": "512Mi"}
    container = {
        "name": "verify-adapters",
        "image": image,
        "command": command,
        "resources": {"requests": small, "limits": small},
        "securityContext": _confined(),
        "volumeMounts": [{"name": "model-store", "mountPath": STORE, "readOnly": True}],
    }
    return [container]


def _confined() -> Manifest:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
