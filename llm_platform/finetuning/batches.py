"""Examples in batches: mixed by seed, near-equal lengths together, each part as large as memory allows."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.finetuning.encoding import Encoded

WINDOW_STEPS = 8
"""Batches are cut from so many batches' worth of mixed examples, sorted by length: little padding, still mixed."""
MEMORY_SHARE = 0.4
LARGEST_PART_TOKENS = 8192
"""More at once is not faster, on a processor or on a GPU."""


@dataclass(frozen=True)
class BatchLimits:
    """How a batch is computed: at most `tokens` at once, with or without keeping what layers computed."""

    tokens: int
    checkpointing: bool


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Steps in which every example occurs once."""
    return -(-count // batch_size)


def epoch_batches(encoded: Sequence[Encoded], *, batch_size: int, seed: int, epoch: int) -> list[list[Encoded]]:
    """Every example once, in batches, in an order that depends on seed and epoch only."""
    chance = random.Random(f"{seed}:{epoch}")
    mixed = list(encoded)
    chance.shuffle(mixed)
    size = WINDOW_STEPS * batch_size
    batches = []
    for start in range(0, len(mixed), size):
        window = sorted(mixed[start : start + size], key=lambda one: one.size)
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    chance.shuffle(batches)
    return batches


def split_batch(batch: Sequence[Encoded], tokens: int) -> list[list[Encoded]]:
    """A batch in parts that hold at most `tokens` each, padding included; a longer example is a part by itself."""
    parts: list[list[Encoded]] = []
    for one in sorted(batch, key=lambda example: example.size):
        # Sorted: the newest is the longest, and sets the width of its part.
        if parts and (len(parts[-1]) + 1) * one.size <= tokens:
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts


def parts_for(config: Any, *, longest: int, memory_bytes: int, bytes_per_number: int) -> BatchLimits:
    """How much to compute at once.

    It follows the machine's whole memory rather than what is free of it: the parts of a batch decide the last bits of a
    sum, and the same training must give the same adapter tomorrow.

    Args:
        config: Of the model, as Hugging Face names its sizes.
        longest: Tokens of the longest example.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    heads = getattr(config, "num_attention_heads", 1)
    # What one layer keeps for the backward pass: some twelve vectors of the hidden and six of the inner size, and three
    # matrices of attention weights.
    per_token = bytes_per_number * (12 * hidden + 6 * inner + 3 * heads * longest)
    room = int(memory_bytes * MEMORY_SHARE)
    tokens = room // (layers * per_token)
    if tokens >= longest:
        return BatchLimits(min(tokens, LARGEST_PART_TOKENS), checkpointing=False)
    kept = bytes_per_number * hidden * layers + per_token
    return BatchLimits(max(longest, min(room // kept, LARGEST_PART_TOKENS)), checkpointing=True)


def memory_bytes(device: Any) -> int:
    """Memory of the device; of the processor, what the machine or its container may use."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(whole, int(text)) if text.isdigit() else whole
