"""The pod that trains an adapter in a cluster: the same command on the same folder, beside a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.errors import SpecificationError
from llm_platform.operations.adapters.finetuning import Training

START_ALLOWANCE_SECONDS = 1800
"""For a node to be made, the image to be pulled and the base model to be read; training has its own budget."""


@dataclass(frozen=True)
class TrainingImage:
    """What adapters are trained in, in a cluster.

    Attributes:
        image: None where the deployment names none.
        claim: Volume claim that holds the state folder.
        state: Path under which it is mounted.
    """

    image: str | None
    claim: str
    state: Path
    gpus: int = 1


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
    gpus = {"nvidia.com/gpu": str(image.gpus)}
    labels = {
        "app.kubernetes.io/part-of": "llm-platform",
        "llm-platform/application": job.application,
        "llm-platform/adapter": job.name,
    }
    mounts = [{"name": "state", "mountPath": str(image.state)}]
    volumes: list[dict[str, Any]] = [
        {"name": "state", "persistentVolumeClaim": {"claimName": image.claim}},
        # PyTorch's workers share tensors through memory that a container has 64 MiB of by default.
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    mounts.append({"name": "memory", "mountPath": "/dev/shm"})
    return TrainingPod(
        image=image.image,
        # The image has a Python of its own; the run's is somewhere else.
        command=["python", *training.command[1:]],
        metadata={"labels": labels},
        spec={
            "restartPolicy": "Never",
            "activeDeadlineSeconds": timeout,
            "volumes": volumes,
            "containers": [
                {
                    "name": "train",
                    "resources": {"limits": gpus, "requests": gpus},
                    "volumeMounts": mounts,
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
        timeout_seconds=timeout,
    )
