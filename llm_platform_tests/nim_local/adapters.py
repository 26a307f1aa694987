"""Adapters for tests: random, in PEFT's layout, strong enough to change answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Outputs and inputs of SmolLM2-135M's projections; 9 heads, 3 of them with keys and values, 64 wide.
SHAPES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
LAYERS = 30
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
CONFIG: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "init_lora_weights": True}

Tensors = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]


def random_tensors(
    seed: int, *, rank: int = 4, strength: float = 0.03, modules: Sequence[str] = ATTENTION, layers: int = LAYERS
) -> Tensors:
    """A and B of every module of every layer, none of them zero."""
    chance = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in range(layers):
        for module in modules:
            outputs, inputs = SHAPES[module]
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = chance.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = chance.normal(0, strength, (outputs, rank)).astype(np.float32)
    return tensors


def write_adapter(folder: Path, tensors: Mapping[str, Any], *, rank: int = 4, alpha: float = 8, **config: Any) -> Path:
    """The folder, written as PEFT writes it; float32 unless an array has another type."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        raw = values.tobytes()
        kind = {"float32": "F32", "float16": "F16", "uint16": "BF16", "float64": "F64"}[values.dtype.name]
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": offsets}
        data += raw
    head = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    modules = sorted({name.split(".")[-3] for name in tensors})
    settings = {**CONFIG, "r": rank, "lora_alpha": alpha, "target_modules": modules, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def random_adapter(folder: Path, seed: int, **settings: Any) -> Path:
    """A random adapter in a folder."""
    return write_adapter(folder, random_tensors(seed, **settings), rank=settings.get("rank", 4))
