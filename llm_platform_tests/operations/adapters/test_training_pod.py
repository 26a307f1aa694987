"""What a training in a cluster is started with, as data: there is no cluster here."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.finetuning.job import TrainingJob
from llm_platform.operations.adapters.finetuning import Training
from llm_platform.operations.adapters.training_pod import START_ALLOWANCE_SECONDS, training_pod
from llm_platform.records import ModelPin, Recipe, TrainingData
from llm_platform.resources.handed import training_image
from llm_platform.settings.settings import Settings


@pytest.fixture
def training(tmp_path: Path) -> Training:
    job = TrainingJob(
        application="tickets",
        name="mood",
        base=ModelPin(entry="llama", served_name="llama", dialect="nim-2.x", context_length=4096),
        recipe=Recipe(),
        data=TrainingData(content_hash="0" * 16, train=100, validation=20, evaluation=50),
        prompt_version="1" * 16,
        answers={},
        max_minutes=90,
    )
    return Training(job, tmp_path / "training" / "mood", tmp_path / "bases" / "llama", None)


def test_the_pod_runs_the_same_command_on_the_shared_folder_with_gpus_and_an_end(
    training: Training, tmp_path: Path
) -> None:
    """Dagster waits a day by default, and a pod that nobody ends keeps a GPU; both have the budget of the training."""
    from dagster_k8s.pipes import build_pod_body

    settings = Settings(
        state=tmp_path, training_image="registry.example/train@sha256:ab", training_gpus=2, training_account="plain"
    )

    pod = training_pod(training, training_image(settings))
    body = build_pod_body("train-1", pod.image, pod.command, {}, pod.metadata, pod.spec)

    (container,) = body.spec.containers
    assert container.image == "registry.example/train@sha256:ab"
    assert container.command[0] == "python"
    # On a node whose driver is too old, PyTorch would train on the processor, and hold the GPU meanwhile.
    assert container.command[1:] == [*training.command[1:], "--gpu"]
    assert container.resources.limits == {"nvidia.com/gpu": "2"}
    assert body.spec.service_account_name == "plain"
    assert body.spec.restart_policy == "Never"
    assert body.spec.active_deadline_seconds == pod.timeout_seconds == 90 * 60 + START_ALLOWANCE_SECONDS
    assert body.metadata.labels["llm-platform/adapter"] == "mood"
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts}
    claims = {volume.name: volume.persistent_volume_claim for volume in body.spec.volumes}
    assert mounts["state"] == str(tmp_path)
    assert claims["state"].claim_name == "llm-platform-state"


def test_a_namespace_that_is_restricted_and_has_a_quota_takes_the_pod(training: Training, tmp_path: Path) -> None:
    """`docs/operations/install.md` makes the namespace so, and a pod that it refuses is never trained in."""
    import kubernetes_validate

    settings = Settings(
        state=tmp_path, training_image="registry.example/train@sha256:ab", nim_gpu_resource="amd.com/gpu"
    )

    pod = training_pod(training, training_image(settings))
    (container,) = pod.spec["containers"]

    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train-1", **pod.metadata}, "spec": pod.spec}
    kubernetes_validate.validate(whole, "1.34", strict=True)
    assert pod.spec["securityContext"]["runAsNonRoot"] is True
    assert pod.spec["securityContext"]["runAsUser"] == 10001
    assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert set(container["resources"]["requests"]) == {"cpu", "memory", "amd.com/gpu"}
    # GPU nodes keep other pods away, as models' pods know.
    assert [one["key"] for one in pod.spec["tolerations"]] == ["nvidia.com/gpu"]


def test_a_pod_without_an_image_is_refused(training: Training, tmp_path: Path) -> None:
    """A pod that cannot start would wait for its deadline."""
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_TRAINING_IMAGE"):
        training_pod(training, training_image(Settings(state=tmp_path)))
