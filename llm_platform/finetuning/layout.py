"""An adapter's weights in Hugging Face layout, byte for byte the same for the same weights."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any


def write_layout(wrapped: Any, *, config: Path, weights: Path, base_name: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` of a PEFT model.

    PEFT's own `save_pretrained` writes the base's path on this machine, and sets in any order.
    """
    import peft
    import safetensors.torch

    state = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    tensors = {name: one.detach().cpu().contiguous() for name, one in sorted(state.items())}
    safetensors.torch.save_file(tensors, str(weights), metadata={"format": "pt"})
    values = wrapped.peft_config["default"].to_dict()
    values["base_model_name_or_path"] = base_name
    values["inference_mode"] = True
    config.write_text(json.dumps(values, default=_plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if isinstance(value, Enum) else str(value)
