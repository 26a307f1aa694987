"""What Kubernetes objects say about a model: a NIMService, and the pods that run it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.errors import SpecificationError

_IMAGE_ID = re.compile(r"^(?:[a-z-]+://)?(?P<repository>[^@]+)@(?P<digest>sha256:[0-9a-f]{64})$")
_PROFILE = re.compile(r"^[0-9a-f]{64}$")


def fields_of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a lock entry that a NIMService manifest says: image, profile, names, context length, GPUs.

    Raises:
        SpecificationError: it is no NIMService, or names no image.
    """
    spec = _mapping(manifest.get("spec"))
    image = _mapping(spec.get("image"))
    if manifest.get("kind") != "NIMService" or not image.get("repository") or not image.get("tag"):
        raise SpecificationError(
            f"Found kind {manifest.get('kind')!r}; a NIMService with spec.image's repository and tag is needed."
        )
    environment = {
        str(item.get("name")): item.get("value") for item in spec.get("env") or [] if isinstance(item, Mapping)
    }
    tag, _, digest = str(image["tag"]).partition("@")
    found: dict[str, Any] = {"image": {"repository": str(image["repository"]), "tag": tag}}
    if digest:
        found["image"]["digest"] = digest
    name = _mapping(manifest.get("metadata")).get("name")
    if name:
        found["service"] = str(name)
    if served := environment.get("NIM_SERVED_MODEL_NAME"):
        found["served_name"] = str(served).split(",")[0]
    profile = str(environment.get("NIM_MODEL_PROFILE") or "")
    if _PROFILE.match(profile):
        found["profile"] = profile
    if length := environment.get("NIM_MAX_MODEL_LEN"):
        found["context_length"] = int(str(length))
    gpus = _mapping(_mapping(spec.get("resources")).get("limits")).get("nvidia.com/gpu")
    tensor = environment.get("NIM_TENSOR_PARALLEL_SIZE") or gpus
    if tensor:
        found["parallelism"] = {"tensor": int(str(tensor))}
    return found


def image_of_pods(pods: Sequence[Mapping[str, Any]], repository: str) -> dict[str, str]:
    """Repository and digest of the image that pods run, from `status.containerStatuses[].imageID`.

    Args:
        pods: Pod objects as the API gives them, at least one of which runs the image.
        repository: Of the image that is meant: a pod may hold other containers.

    Raises:
        SpecificationError: no container runs it, two pods run different builds, or the node gives no digest.
    """
    found: set[str] = set()
    seen: set[str] = set()
    for pod in pods:
        for status in _mapping(pod.get("status")).get("containerStatuses") or []:
            text = str(_mapping(status).get("imageID") or "")
            seen.add(text)
            match = _IMAGE_ID.match(text)
            if match and match["repository"] == repository:
                found.add(match["digest"])
    if not found:
        raise SpecificationError(
            f"No container of {len(pods)} pods runs {repository!r} by digest; found imageID "
            f"{', '.join(sorted(map(repr, seen))) or 'none'}. Wait until a pod is running; an image that was loaded "
            "onto its node by hand has no digest of the registry."
        )
    if len(found) > 1:
        raise SpecificationError(
            f"The pods of {repository!r} run different builds: {', '.join(sorted(found))}. "
            "Wait for the rollout to end, or pin the digest in the manifest."
        )
    return {"repository": repository, "digest": found.pop(), "digest_from": "pod"}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
