"""The pod that trains an adapter in a cluster: the same command on the same folder, beside a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.errors import SpecificationError
from llm_platform.operations.adapters.finetuning import Training

START_ALLOWANCE_SECONDS = 1800
"""For a node to be made, the image to be pulled and the base model to be read; training has its own budget."""
USER_ID = 10001
"""User and group of our images (`deploy/images`), which own the state folder."""


@dataclass(frozen=True)
class TrainingImage:
    """What adapters are trained in, in a cluster.

    Attributes:
        image: None where the deployment names none.
        claim: Volume claim that holds the state folder.
        state: Path under which it is mounted.
        account: Service account of the pod, which gets no token of it.
        gpu_resource: What a node calls its GPUs.
        tolerated_taints: Keys of taints that keep other pods from GPU nodes.
    """

    image: str | None
    claim: str
    state: Path
    account: str = "default"
    gpus: int = 1
    gpu_resource: str = "nvidia.com/gpu"
    tolerated_taints: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingPod:
    """What `PipesK8sClient.run` is given.

    Attributes:
        timeout_seconds: Of the pod in Kubernetes and of the wait for it: Dagster's own default is a whole day.
    """

    image: str
    command: list[str]
    metadata: dict[str, Any]
    spec: dict[str, Any]
    timeout_seconds: int


def training_pod(training: Training, image: TrainingImage) -> TrainingPod:
    """The pod of one training.

    The state folder is one volume, mounted at one path in the pods of runs and of trainings: the job is read from it,
    and checkpoints on it outlive the pod.

    Raises:
        SpecificationError: the deployment names no image.
    """
    if image.image is None:
        raise SpecificationError("A training pod needs an image. Name it in LLM_PLATFORM_TRAINING_IMAGE.")
    job = training.job
    timeout = round(job.max_minutes * 60) + START_ALLOWANCE_SECONDS
    labels = {
        "app.kubernetes.io/part-of": "llm-platform",
        "llm-platform/application": job.application,
        "llm-platform/adapter": job.name,
    }
    volumes: list[dict[str, Any]] = [
        {"name": "state", "persistentVolumeClaim": {"claimName": image.claim}},
        {"name": "tmp", "emptyDir": {}},
        # PyTorch's workers share tensors through memory that a container has 64 MiB of by default.
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    return TrainingPod(
        image=image.image,
        # The image has a Python of its own; the run's is somewhere else.
        command=["python", *training.command[1:], "--gpu"],
        metadata={"labels": labels},
        spec={
            "restartPolicy": "Never",
            "activeDeadlineSeconds": timeout,
            "serviceAccountName": image.account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [
                {"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in image.tolerated_taints
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
            "containers": [_container(image)],
        },
        timeout_seconds=timeout,
    )


def _container(image: TrainingImage) -> dict[str, Any]:
    gpus = {image.gpu_resource: str(image.gpus)}
    return {
        "name": "train",
        # A namespace with a quota takes no pod that does not say what it needs; a limit would be a guess.
        "resources": {"limits": gpus, "requests": {"cpu": "1", "memory": "4Gi", **gpus}},
        "volumeMounts": [
            {"name": "state", "mountPath": str(image.state)},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
