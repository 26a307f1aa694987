"""The base model for training: the pinned file or folder, in the number format in which this machine is quick."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.errors import EndpointMismatch, PermanentError, SpecificationError, StorageError
from llm_platform.files import file_sha256
from llm_platform.records import Recipe

if TYPE_CHECKING:
    import torch


@dataclass
class Base:
    """A loaded base model with its tokenizer.

    Attributes:
        sha256: Of the weights that were read.
        dtype: Of the weights in memory.
    """

    model: Any
    tokenizer: Any
    sha256: str
    dtype: torch.dtype
    device: torch.device


def require_libraries() -> None:
    """Refuse to go on without what training needs.

    Raises:
        PermanentError: names the package that is missing and the extra that brings it.
    """
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"Training needs the package {error.name!r}, which is not installed. Install llm-platform with its extra "
            "'finetune' (make install-finetune)."
        ) from error


def best_device(*, gpu: bool = False) -> torch.device:
    """The GPU if there is one.

    Args:
        gpu: Whether this process was given one, so that a PyTorch for GPUs has to see it.

    Raises:
        PermanentError: it does not.
    """
    import torch

    seen = torch.cuda.is_available()
    if gpu:
        require_seen(built_for=torch.version.cuda or torch.version.hip, seen=seen)
    return torch.device("cuda" if seen else "cpu")


def require_seen(*, built_for: str | None, seen: bool) -> None:
    """Refuse a GPU that is held and cannot be used: training on the processor would hold it for days.

    Args:
        built_for: Version of CUDA or ROCm that PyTorch was built for; None: a build that knows processors only.
        seen: Whether PyTorch has found a GPU.

    Raises:
        PermanentError: it was built for GPUs and has found none.
    """
    if built_for is not None and not seen:
        raise PermanentError(
            f"This process was given a GPU, and PyTorch, built for {built_for}, finds none. Most often the driver of "
            "the node is older than that needs (CUDA 13.0: 580), or its container runtime hands no GPU in. Look at "
            "nvidia-smi on the node, or build the image with another PyTorch (deploy/images/README.md)."
        )


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it, which is several times faster; float32 where it would emulate it."""
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def weights_sha256(path: Path) -> str:
    """Hash of a GGUF file, or of all safetensors of a folder in Hugging Face layout.

    Raises:
        StorageError: there is nothing of the kind, or it cannot be read.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise StorageError(
            f"No base model at {path}: neither a GGUF file nor a folder with safetensors. "
            "For the embedded model run: llm-platform model fetch"
        )
    try:
        hashes = [file_sha256(file) for file in files]
    except OSError as error:
        raise StorageError(f"The base model {error.filename} cannot be read: {error.strerror}.") from error
    return hashes[0] if path.is_file() else hashlib.sha256("".join(hashes).encode()).hexdigest()


def load_base(path: Path, *, pinned_sha256: str | None, device: torch.device, dtype: torch.dtype | None = None) -> Base:
    """Load a base model from a GGUF file (its weights dequantized) or a folder in Hugging Face layout.

    Raises:
        EndpointMismatch: the weights are not those that the lock file pins; the message has both hashes.
        StorageError: there are none, or they cannot be read.
    """
    import transformers

    found = weights_sha256(path)
    if pinned_sha256 is not None and found != pinned_sha256:
        raise EndpointMismatch(
            f"The base model {path} has sha256 {found}, and the lock file pins {pinned_sha256}. An adapter fits one "
            "base only: fetch the pinned weights, or pin these."
        )
    dtype = dtype or best_dtype(device)
    options: dict[str, Any] = {}
    folder = str(path)
    if path.is_file():
        folder, options["gguf_file"] = str(path.parent), path.name
    packed = {"quantization_config": transformers.GgufConfig(gguf_file=path.name, dequantize=True)} if options else {}
    quiet: Any = transformers.utils.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    # Eager attention on the processor: for texts of a few hundred tokens the fused kernel's backward pass takes longer.
    attention = "eager" if device.type == "cpu" else "sdpa"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, **options, **packed
        )
    return Base(model.to(device), tokenizer, found, dtype, device)


def with_adapter(base: Base, recipe: Recipe) -> Any:
    """The model with a fresh adapter, which alone is trained; its weights are float32 whatever the base's are.

    Raises:
        SpecificationError: the model has no linear layer of a name that the recipe gives.
    """
    import peft
    import torch

    linear = {name.rsplit(".", 1)[-1] for name, part in base.model.named_modules() if isinstance(part, torch.nn.Linear)}
    unknown = sorted(set(recipe.target_modules) - linear)
    if unknown:
        raise SpecificationError(
            f"finetuning.target_modules names {', '.join(map(repr, unknown))}, and the base model has no such linear "
            f"layer; it has {', '.join(map(repr, sorted(linear)))}."
        )
    torch.manual_seed(recipe.seed)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        lora_dropout=0.0,
        target_modules=list(recipe.target_modules),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base.model, config, autocast_adapter_dtype=True)
    model.train()
    return model
