"""What Kubernetes objects say about a model."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.models.manifests import fields_of_manifest, image_of_pods

REPOSITORY = "nvcr.io/nim/meta/llama-3.1-8b-instruct"
DIGEST = "sha256:" + "a" * 64
PROFILE = "b" * 64


def manifest(tag: str = "2.1.5") -> dict[str, Any]:
    return {
        "apiVersion": "apps.nvidia.com/v1alpha1",
        "kind": "NIMService",
        "metadata": {"name": "llama-8b"},
        "spec": {
            "image": {"repository": REPOSITORY, "tag": tag, "pullSecrets": ["ngc"]},
            "env": [
                {"name": "NIM_MODEL_PROFILE", "value": PROFILE},
                {"name": "NIM_SERVED_MODEL_NAME", "value": "llama-8b,llama"},
                {"name": "NIM_MAX_MODEL_LEN", "value": "8192"},
                {"name": "NGC_API_KEY", "valueFrom": {"secretKeyRef": {"name": "ngc", "key": "key"}}},
            ],
            "resources": {"limits": {"nvidia.com/gpu": 2}},
        },
    }


def pod(image_id: str) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"imageID": "docker.io/envoy@" + DIGEST}, {"imageID": image_id}]}}


def test_a_manifest_says_image_profile_and_gpus() -> None:
    """They are typed once, where the pods are described."""
    fields = fields_of_manifest(manifest(f"2.1.5@{DIGEST}"))

    assert fields == {
        "image": {"repository": REPOSITORY, "tag": "2.1.5", "digest": DIGEST},
        "service": "llama-8b",
        "served_name": "llama-8b",
        "profile": PROFILE,
        "context_length": 8192,
        "parallelism": {"tensor": 2},
    }


def test_something_else_than_a_nim_service_is_refused() -> None:
    """A Deployment has an image, too, and says nothing about profiles."""
    with pytest.raises(SpecificationError, match="Found kind 'Deployment'"):
        fields_of_manifest({"kind": "Deployment", "spec": {}})


@pytest.mark.parametrize(
    "prefix", ["", "docker-pullable://", "docker://"], ids=["containerd", "docker", "docker-short"]
)
def test_the_digest_that_runs_is_read_from_the_pods(prefix: str) -> None:
    """The tag in the manifest says what was asked for; only the node knows what was pulled."""
    image_id = f"{prefix}{REPOSITORY}@{DIGEST}"

    found = image_of_pods([pod(image_id), pod(image_id), {"status": {}}], REPOSITORY)

    assert found == {"repository": REPOSITORY, "digest": DIGEST, "digest_from": "pod"}


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        pytest.param([{"status": {}}], "found imageID none", id="pending"),
        pytest.param([pod("sha256:" + "c" * 64)], "loaded onto its node by hand", id="no-repository"),
        pytest.param(
            [pod(f"{REPOSITORY}@{DIGEST}"), pod(f"{REPOSITORY}@sha256:{'d' * 64}")], "different builds", id="two"
        ),
    ],
)
def test_a_digest_that_is_not_certain_is_not_locked(pods: list[dict[str, Any]], said: str) -> None:
    """An id of a node's own image store looks like a digest and is none."""
    with pytest.raises(SpecificationError, match=said):
        image_of_pods(pods, REPOSITORY)
