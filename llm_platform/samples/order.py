"""Seeded orders and splits that stay as they are when more documents are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from llm_platform.records import Split


def seeded_rank(seed: int, name: str) -> int:
    """A number that shuffles names: equal for equal seed and name, on every machine and version."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8])


def paired_split(seed: int, strata: Iterable[Sequence[str]], content: Mapping[str, str]) -> dict[str, Split]:
    """A split in halves, in every stratum and in every beginning of one.

    Names are taken in pairs in the order of their stratum; of each pair one is for training and one for evaluation,
    which one is drawn. Names with equal content share the split of the first.
    """
    splits: dict[str, Split] = {}
    by_content: dict[str, Split] = {}
    for names in strata:
        for position, name in enumerate(names):
            flipped = seeded_rank(seed, f"pair:{names[position - position % 2]}") % 2
            drawn: Split = "train" if (position + flipped) % 2 == 0 else "evaluation"
            splits[name] = by_content.setdefault(content[name], drawn)
    return splits
