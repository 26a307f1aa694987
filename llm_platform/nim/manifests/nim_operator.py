"""NIMService and NIMCache: what the NIM operator makes pods, services and downloads from.

The webhook of the operator refuses more than its CRDs do, and its templates accept less: both are kept to here.

Source: NVIDIA k8s-nim-operator 3.1, `apps.nvidia.com/v1alpha1`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llm_platform.nim.manifests.adapters import adapter_flags, make_folder, nim_variables, verification
from llm_platform.nim.manifests.names import derived_name, metadata, model_labels
from llm_platform.nim.manifests.pods import PORT, Manifest, PodSettings, ServedModel
from llm_platform.nim.manifests.scaling import hpa_spec
from llm_platform.nim.manifests.scheduling import placement, resources, started_probe, tolerations

API_VERSION = "apps.nvidia.com/v1alpha1"
READY_PATH = "/v1/health/ready"
CACHE_NAME_LENGTH = 58
"""The operator adds `-job` and `-pod`, whose names are values of labels."""


def nim_cache(model: ServedModel, pods: PodSettings) -> Manifest:
    """The NIMCache of a model: a download to the claim, by the very image that serves.

    Its spec can never be changed, so its name holds a hash of it: another digest or profile is another download.
    """
    source: Manifest = {"modelPuller": model.image, "authSecret": pods.ngc_secret}
    if pods.pull_secret:
        source["pullSecret"] = pods.pull_secret
    if model.profile:
        source["model"] = {"profiles": [model.profile]}
    spec: Manifest = {
        "source": {"ngc": source},
        "storage": {"pvc": {"name": pods.claim}},
        "tolerations": tolerations(pods),
        "userID": pods.user_id,
        "groupID": pods.group_id,
    }
    if pods.node_labels:
        spec["nodeSelector"] = dict(pods.node_labels)
    content = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    name = derived_name(model.service, content, longest=CACHE_NAME_LENGTH)
    return {"apiVersion": API_VERSION, "kind": "NIMCache", "metadata": metadata(model, pods, name), "spec": spec}


def nim_service(model: ServedModel, pods: PodSettings, *, cache: str | None) -> Manifest:
    """The NIMService of a model.

    It names no key: a NIM that has one asks NVIDIA's registry at its start, which nothing lets it reach.

    Args:
        model: What is served.
        pods: How.
        cache: Name of the NIMCache with its weights; None: they are on the claim already.
    """
    image = {"repository": model.repository, "tag": model.pinned_tag, "pullPolicy": "IfNotPresent"}
    spec: Manifest = {
        "image": {**image, "pullSecrets": [pods.pull_secret]} if pods.pull_secret else dict(image),
        "labels": model_labels(model, pods),
        "env": [{"name": name, "value": value} for name, value in variables(model, pods).items()],
        "storage": {**_storage(model, pods, cache), "sharedMemorySizeLimit": pods.shared_memory},
        "resources": resources(model, pods),
        # The operator reads the port without asking whether it is there.
        "expose": {"service": {"type": "ClusterIP", "port": PORT}},
        "startupProbe": {"enabled": True, "probe": started_probe(READY_PATH, pods)},
        "userID": pods.user_id,
        "groupID": pods.group_id,
        **placement(pods),
        **_replicas(model, pods),
    }
    if model.adapters:
        spec["initContainers"] = [{"name": "adapters", "image": dict(image), "command": make_folder(model)}]
        if (found := verification(model, pods)) is not None:
            verifier, command = found
            spec["initContainers"].append(
                {"name": "verify-adapters", "image": _image(verifier, image["pullPolicy"]), "command": command}
            )
    return {"apiVersion": API_VERSION, "kind": "NIMService", "metadata": metadata(model, pods), "spec": spec}


def _image(reference: str, pull_policy: str) -> Manifest:
    """An image as the operator takes it: `repository:tag`, which may be a tag with a digest."""
    repository, found, digest = reference.partition("@")
    name, colon, tag = repository.rpartition(":")
    if not colon or "/" in tag:
        name, tag = repository, "latest"
    return {"repository": name, "tag": f"{tag}@{digest}" if found else tag, "pullPolicy": pull_policy}


def variables(model: ServedModel, pods: PodSettings) -> dict[str, str]:
    """Environment of a NIM: what the lock file pins, and adapters."""
    found = {"NIM_SERVED_MODEL_NAME": model.served_name, "DO_NOT_TRACK": "1"}
    if model.profile:
        found["NIM_MODEL_PROFILE"] = model.profile
    if model.gpus > 1:
        found["NIM_TENSOR_PARALLEL_SIZE"] = str(model.tensor)
        found["NIM_PIPELINE_PARALLEL_SIZE"] = str(model.pipeline)
    arguments = adapter_flags() if model.adapters and model.dialect != "nim-1.x" else []
    if model.dialect == "nim-2.x-sglang":
        # Profiles of SGLang images may refuse the variable.
        arguments.append(f"--context-length={model.context_length}")
    else:
        found["NIM_MAX_MODEL_LEN"] = str(model.context_length)
    if model.adapters:
        found |= nim_variables(model, pods)
    if arguments:
        found["NIM_PASSTHROUGH_ARGS"] = " ".join(arguments)
    return found


def _storage(model: ServedModel, pods: PodSettings, cache: str | None) -> Manifest:
    """Exactly one source of storage: the webhook refuses two."""
    if cache is None:
        return {"pvc": {"name": pods.claim}}
    return {"nimCache": {"name": cache, **({"profile": model.profile} if model.profile else {})}}


def _replicas(model: ServedModel, pods: PodSettings) -> dict[str, Any]:
    """`replicas` or `scale`, never both; neither where KEDA counts, since the operator would count against it."""
    scaling = pods.autoscaling
    if scaling.kind == "none":
        return {"replicas": scaling.replicas}
    if scaling.kind == "hpa":
        return {"scale": {"enabled": True, "hpa": hpa_spec(model, pods)}}
    return {}
