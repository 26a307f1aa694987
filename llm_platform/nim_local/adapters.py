"""From a PEFT folder to the GGUF adapter that llama.cpp loads.

Source: llama.cpp, `llama-adapter.cpp` (what it reads) and `convert_lora_to_gguf.py` (names and layout).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.nim_local.gguf_header import Header
from llm_platform.nim_local.locking import make_folder
from llm_platform.nim_local.peft import PeftAdapter, read_peft

if TYPE_CHECKING:
    from llm_platform.nim_local.peft import Matrix

# Raise it when the same folder would now be converted to other bytes.
_CONVERSION = 1
_MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


class RankTooLarge(SpecificationError):
    """An adapter that a NIM with its default limit would not load; in vLLM's words."""


@dataclass(frozen=True)
class BaseWeights:
    """The weights that adapters are for."""

    weights_sha256: str
    header: Header


@dataclass(frozen=True)
class ServableAdapter:
    """One adapter, ready for the engine.

    Attributes:
        root: The PEFT folder it came from.
        file: GGUF adapter.
        content: Hash over the PEFT files and the base: equal hashes give equal answers.
        config_sha256, weights_sha256: Of the PEFT files, as they were read.
    """

    name: str
    root: Path
    file: Path
    content: str
    rank: int
    config_sha256: str
    weights_sha256: str


def prepare(name: str, folder: Path, base: BaseWeights, *, cache: Path, max_rank: int) -> ServableAdapter:
    """The adapter of a PEFT folder, converted unless the same content was converted before.

    Raises:
        SpecificationError: it is no adapter for these weights, or of a kind that cannot be served here.
        StorageError: `cache` cannot be written.
    """
    adapter = read_peft(folder)
    if adapter.rank > max_rank:
        raise RankTooLarge(f"LoRA rank {adapter.rank} is greater than max_lora_rank {max_rank}.")
    _check_base(folder, adapter, base)
    recipe = f"{_CONVERSION} {base.weights_sha256} {adapter.content}"
    content = hashlib.sha256(recipe.encode()).hexdigest()
    target = make_folder(cache) / f"{content}.gguf"
    if not target.exists():
        aside = target.with_suffix(f".{os.getpid()}")
        try:
            _write(adapter, base.header, aside)
            aside.replace(target)
        except OSError as error:
            raise StorageError(f"Could not write {str(target)!r}: {error.strerror}. Free space there.") from error
    config, weights = adapter.content.split()
    return ServableAdapter(
        name=name,
        root=folder,
        file=target,
        content=content,
        rank=adapter.rank,
        config_sha256=config,
        weights_sha256=weights,
    )


def _check_base(folder: Path, adapter: PeftAdapter, base: BaseWeights) -> None:
    """Refuse an adapter that is not for the weights that are served."""
    header = base.header
    if adapter.base_sha256 not in (None, base.weights_sha256):
        raise SpecificationError(
            f"Could not use the adapter in {str(folder)!r}: it was trained on weights with sha256 "
            f"{adapter.base_sha256}, those that are served have {base.weights_sha256}."
        )
    if header.architecture != "llama":
        # Other families order the rotary dimensions otherwise; nobody has tried them here.
        raise SpecificationError(
            f"Could not use the adapter in {str(folder)!r}: adapters are served for models of the 'llama' family, "
            f"this one is {header.architecture!r}."
        )
    for (layer, module), (a, b) in adapter.matrices.items():
        if module not in _MODULES:
            raise SpecificationError(
                f"Could not use the adapter in {str(folder)!r}: it changes {module!r} of layer {layer}; what can be "
                f"served is {', '.join(_MODULES)}."
            )
        wanted = header.shapes.get(_tensor(layer, module))
        found = (b.shape[0], a.shape[1])
        if wanted != found:
            there = f"is {wanted[0]} by {wanted[1]}" if wanted else "does not exist"
            raise SpecificationError(
                f"Could not use the adapter in {str(folder)!r}: it was trained on another base model. {module} of "
                f"layer {layer} {there} in the weights that are served; the adapter is for {found[0]} by {found[1]}."
            )


def _tensor(layer: int, module: str) -> str:
    return f"blk.{layer}.{_MODULES[module]}.weight"


def _write(adapter: PeftAdapter, header: Header, target: Path) -> None:
    import numpy as np
    from gguf import GGUFWriter

    heads = {"q_proj": int(header.setting("attention.head_count"))}
    heads["k_proj"] = int(header.setting("attention.head_count_kv"))
    writer = GGUFWriter(target, arch=header.architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    for (layer, module), (a, b) in sorted(adapter.matrices.items()):
        name = _tensor(layer, module)
        out = rotary_order(b, heads[module]) if module in heads else b
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(out))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotary_order(rows: Matrix, heads: int) -> Matrix:
    """Rows of a query or key projection in llama.cpp's order.

    Hugging Face rotates dimension i of a head with i + half, llama.cpp rotates neighbours: the two halves of every head
    are interleaved. The weights were reordered when the GGUF was made, so what is added to them must be as well.
    """
    size = rows.shape[0] // heads
    halves = rows.reshape(heads, 2, size // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)
