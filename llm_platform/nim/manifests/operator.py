"""NIMService and NIMCache: what the NIM operator makes pods, services and downloads from.

Source: NVIDIA k8s-nim-operator 3.1, `apps.nvidia.com/v1alpha1`.
"""

from __future__ import annotations

from llm_platform.nim.manifests.pods import PORT, Manifest, PodSettings, ServedModel, labels, metadata

API_VERSION = "apps.nvidia.com/v1alpha1"


def nim_service(model: ServedModel, pods: PodSettings) -> Manifest:
    """The NIMService of a model."""
    gpus = {pods.gpu_resource: model.gpus}
    return {
        "apiVersion": API_VERSION,
        "kind": "NIMService",
        "metadata": metadata(pods, model),
        "spec": {
            "image": {
                "repository": model.repository,
                "tag": model.pinned_tag,
                "pullPolicy": "IfNotPresent",
                "pullSecrets": [pods.pull_secret] if pods.pull_secret else [],
            },
            "labels": labels(pods, model),
            "storage": {"nimCache": {"name": model.service}, "sharedMemorySizeLimit": pods.shared_memory},
            "replicas": pods.autoscaling.replicas,
            "resources": {"limits": gpus, "requests": gpus},
            "expose": {"service": {"type": "ClusterIP", "port": PORT}},
            "priorityClassName": pods.priority_class,
            "userID": pods.user_id,
            "groupID": pods.group_id,
        },
    }
