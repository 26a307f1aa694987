"""A LoRA adapter as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`, read without torch.

Only what the embedded NIM can serve is accepted. Everything else is refused in words, never served as something it is
not: a setting that is silently dropped gives other answers than the adapter was evaluated with.

Source of the layouts: PEFT 0.21, `LoraConfig` and its state dictionary; the safetensors format, version 0.4.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.errors import SpecificationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "manifest.json"

_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight")
# Beyond any header of an adapter; a length that was not written yet reads as a huge number.
_LONGEST_HEADER = 1 << 24
# Settings that change what an adapter computes in ways llama.cpp does not know.
_NOT_SERVED = (
    *("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication"),
    *("trainable_token_indices", "target_parameters", "lora_bias", "alora_invocation_tokens", "use_qalora"),
)
# Ways to begin a training that change the base weights too: the adapter belongs to those, not to what is served.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class PeftAdapter:
    """One adapter: the change of a weight matrix is `alpha / rank * b @ a`.

    Attributes:
        content: Hashes of the two files, configuration and weights, with a blank between.
        base_sha256: Of the weights it was trained on, where a manifest of this platform lies beside it.
        matrices: (layer, module) → a of shape (rank, inputs) and b of shape (outputs, rank).
    """

    content: str
    base_sha256: str | None
    rank: int
    alpha: float
    matrices: dict[tuple[int, str], tuple[Matrix, Matrix]]


def read_peft(folder: Path) -> PeftAdapter:
    """The adapter in a folder.

    Raises:
        SpecificationError: it is incomplete, damaged, or of a kind that cannot be served here; says which.
    """
    files = {name: _read(folder, name) for name in (CONFIG_FILE, WEIGHTS_FILE)}
    config = _json_object(folder, CONFIG_FILE, files[CONFIG_FILE])
    rank = config.get("r")
    alpha = config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise _refusal(folder, f"{CONFIG_FILE} has 'r' {rank!r} and 'lora_alpha' {alpha!r}, numbers are needed")
    _check_settings(folder, config)
    matrices = _pairs(folder, _tensors(folder, files[WEIGHTS_FILE]), rank)
    # Rank-stabilized LoRA divides by the root of the rank; llama.cpp always divides by the rank.
    scale = math.sqrt(rank) if config.get("use_rslora") else 1.0
    digests = [hashlib.sha256(files[name]).hexdigest() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    return PeftAdapter(
        content=" ".join(digests),
        base_sha256=_trained_on(folder),
        rank=rank,
        alpha=float(alpha) * scale,
        matrices=matrices,
    )


def _refusal(folder: Path, found: str) -> SpecificationError:
    return SpecificationError(f"Could not use the adapter in {str(folder)!r}: {found}.")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        pickled = name == WEIGHTS_FILE and (folder / "adapter_model.bin").exists()
        more = "; 'adapter_model.bin' may run code when it is read, save it as safetensors" if pickled else ""
        raise _refusal(folder, f"no {name} there{more}") from error
    except OSError as error:
        raise _refusal(folder, f"{name} cannot be read ({error.strerror})") from error


def _json_object(folder: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _refusal(folder, f"{name} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise _refusal(folder, f"{name} is no JSON object")
    return value


def _trained_on(folder: Path) -> str | None:
    """Hash of the base weights in the platform's manifest; adapters from elsewhere have none."""
    if not (folder / MANIFEST_FILE).exists():
        return None
    base = _json_object(folder, MANIFEST_FILE, _read(folder, MANIFEST_FILE)).get("base")
    found = base.get("weights_sha256") if isinstance(base, dict) else None
    return str(found) if found else None


def _check_settings(folder: Path, config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refusal(folder, f"its 'peft_type' is {kind!r}, only 'LORA' can be served")
    found = [name for name in _NOT_SERVED if config.get(name)]
    if config.get("bias") not in (None, "none"):
        found.append("bias")
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGES_THE_BASE):
        found.append("init_lora_weights")
    if found:
        settings = ", ".join(f"{name!r} {config[name]!r}" for name in found)
        raise _refusal(folder, f"it was made with {settings}, which cannot be served here")


def _pairs(folder: Path, tensors: dict[str, Matrix], rank: int) -> dict[tuple[int, str], tuple[Matrix, Matrix]]:
    import numpy as np

    halves: dict[tuple[int, str], dict[str, Matrix]] = {}
    for name, values in tensors.items():
        matched = _TENSOR.fullmatch(name)
        if matched is None:
            raise _refusal(
                folder, f"tensor {name!r} belongs to no projection of an attention or feed-forward layer of a decoder"
            )
        if not np.isfinite(values).all():
            raise _refusal(folder, f"tensor {name!r} holds values that are no numbers; its training diverged")
        halves.setdefault((int(matched[1]), matched[2]), {})[matched[3]] = values
    matrices = {}
    for (layer, module), pair in halves.items():
        where = f"{module} of layer {layer}"
        if pair.keys() != {"A", "B"}:
            raise _refusal(folder, f"{where} has only one of its two matrices")
        if pair["A"].ndim != 2 or pair["B"].ndim != 2 or {pair["A"].shape[0], pair["B"].shape[1]} != {rank}:
            shapes = f"{pair['A'].shape} and {pair['B'].shape}"
            raise _refusal(folder, f"{where} has matrices of shapes {shapes}, which is not rank {rank}")
        matrices[layer, module] = (pair["A"], pair["B"])
    if not matrices:
        raise _refusal(folder, f"{WEIGHTS_FILE} holds no tensors")
    return matrices


def _tensors(folder: Path, raw: bytes) -> dict[str, Matrix]:
    """Every tensor of a safetensors file as float32: 8 bytes of header length, a JSON header, then the values."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > min(_LONGEST_HEADER, len(raw) - 8):
        raise _refusal(folder, f"{WEIGHTS_FILE} ends inside its header, or is no safetensors file")
    try:
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _values(raw, 8 + length, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refusal(folder, f"{WEIGHTS_FILE} is damaged or not completely written ({error})") from error


def _values(raw: bytes, start: int, entry: dict[str, Any]) -> Matrix:
    import numpy as np

    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(raw) - start:
        raise ValueError(f"values up to byte {start + end} of a file of {len(raw)}")
    data = raw[start + begin : start + end]
    kind = entry["dtype"]
    if kind == "BF16":
        # bfloat16 is the upper half of a float32.
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in ("F16", "F32"):
        values = np.frombuffer(data, "<f2" if kind == "F16" else "<f4").astype(np.float32)
    else:
        raise ValueError(f"number format {kind!r}, known are 'F32', 'F16' and 'BF16'")
    return values.reshape(entry["shape"])
