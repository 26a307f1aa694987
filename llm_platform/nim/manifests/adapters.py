"""LoRA adapters in pods: the claim they lie on, and what each line of NIM calls its limits.

The limits are NIM's own defaults, written out so that both lines have the same; the embedded NIM has this rank, too.
"""

from __future__ import annotations

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.names import shared_metadata
from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel

MAX_GPU_ADAPTERS = 8
MAX_CPU_ADAPTERS = 16
MAX_RANK = 32


def claim(pods: PodSettings) -> Manifest:
    """The volume claim that holds weights and adapters, for all models of a namespace.

    The operator gives a NIM one volume, so both are on it; this platform mounts it, too, and writes adapters.
    """
    spec: Manifest = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": pods.claim_size}}}
    if pods.storage_class is not None:
        spec["storageClassName"] = pods.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": shared_metadata(pods, pods.claim),
        "spec": spec,
    }


def make_folder(model: ServedModel) -> list[str]:
    """Command that makes the folder of a model's adapters, writable for the group that publishes to it."""
    return ["mkdir", "-p", "-m", "2775", model.adapters_folder]


def verification(model: ServedModel, pods: PodSettings) -> tuple[str, list[str]] | None:
    """Image and command of what verifies the adapters of a model before it starts; None where nothing does.

    Public keys are in the command: they are no secret, and the operator gives its init containers no volume but one.

    Raises:
        SpecificationError: an image is named, and no key is.
    """
    if pods.verifier_image is None:
        return None
    if not pods.adapter_keys.strip():
        raise SpecificationError(
            "LLM_PLATFORM_NIM_VERIFIER_IMAGE is set, and nothing says by which keys adapters are signed: set "
            "LLM_PLATFORM_ADAPTER_KEYS."
        )
    module = ["python", "-m", "llm_platform.finetuning.signature"]
    return pods.verifier_image, [*module, model.adapters_folder, pods.adapter_keys]


def adapter_flags() -> list[str]:
    """Arguments of an engine that serves adapters."""
    return [
        "--enable-lora",
        f"--max-loras={MAX_GPU_ADAPTERS}",
        f"--max-cpu-loras={MAX_CPU_ADAPTERS}",
        f"--max-lora-rank={MAX_RANK}",
    ]


def nim_variables(model: ServedModel, pods: PodSettings) -> dict[str, str]:
    """Environment of a NIM that watches a folder for adapters.

    The limits have variables in 1.x; 2.x takes the engine's arguments, which `nim_operator` passes on.
    """
    return {
        "NIM_PEFT_SOURCE": model.adapters_folder,
        "NIM_PEFT_REFRESH_INTERVAL": str(pods.refresh_seconds),
        "NIM_MAX_GPU_LORAS": str(MAX_GPU_ADAPTERS),
        "NIM_MAX_CPU_LORAS": str(MAX_CPU_ADAPTERS),
        "NIM_MAX_LORA_RANK": str(MAX_RANK),
    }


def vllm_variables(model: ServedModel) -> dict[str, str]:
    """Environment of a bare vLLM that finds adapters by name, also after a restart, when nobody calls it again."""
    return {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": "lora_filesystem_resolver",
        "VLLM_LORA_RESOLVER_CACHE_DIR": model.adapters_folder,
    }
