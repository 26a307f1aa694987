"""Texts that say nearly the same, found exactly and without comparing all with all.

Two texts are near-duplicates when the Jaccard similarity of their sets of word triples reaches a threshold. Exact
rather than estimated by MinHash: the prefix filter needs no seed, misses nothing, and is quick where it matters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

NEAR = 0.5
"""Half of all word triples in common: a review with its last sentence cut off is the same review."""
WORDS = 3
_WORD = re.compile(r"\w+")


def near_duplicate_groups(texts: Mapping[str, str]) -> dict[str, str]:
    """Id → the smallest id of its group; texts linked by a chain of near-duplicates are one group.

    Deterministic: it depends on texts and ids, not on their order.

    Source: prefix filtering, Bayardo et al. 2007 and Xiao et al. 2008: of two sets with similarity t, ordered by
    rarity, the first |x| - ceil(t |x|) + 1 elements of each share one.
    """
    ids = sorted(texts)
    shingles = _by_rarity([shingles_of(texts[key]) for key in ids])
    parents = list(range(len(ids)))
    index: dict[int, list[int]] = {}
    # Short before long: a candidate is never longer than the text that looks for it.
    for current in sorted(range(len(ids)), key=lambda position: (len(shingles[position]), position)):
        mine = shingles[current]
        prefix = mine[: len(mine) - _at_least(len(mine)) + 1]
        members = set(mine)
        for candidate in sorted({found for shingle in prefix for found in index.get(shingle, ())}):
            a, b = _root(parents, candidate), _root(parents, current)
            if a != b and _similar(shingles[candidate], members):
                parents[max(a, b)] = min(a, b)
        for shingle in prefix:
            index.setdefault(shingle, []).append(current)
    return {key: ids[_root(parents, position)] for position, key in enumerate(ids)}


def shingles_of(text: str) -> set[int]:
    """Word triples of a text without case and punctuation, as hashes; all its words where it has fewer than three.

    Hashes differ from process to process. Nothing but speed depends on their order.
    """
    words = _WORD.findall(text.casefold())
    if len(words) < WORDS:
        return {hash(tuple(words) or text)}
    return set(map(hash, zip(words, words[1:], words[2:], strict=False)))


def _by_rarity(sets: Sequence[set[int]]) -> list[list[int]]:
    frequency = Counter(shingle for shingles in sets for shingle in shingles)
    return [sorted(shingles, key=lambda shingle: (frequency[shingle], shingle)) for shingles in sets]


def _at_least(size: int) -> int:
    """The least overlap that a set of this size has with any set that is as similar as `NEAR`."""
    return max(1, -int(-(NEAR * size - 1e-9) // 1))


def _similar(candidate: Sequence[int], members: set[int]) -> bool:
    if len(candidate) < NEAR * len(members):
        return False
    shared = sum(shingle in members for shingle in candidate)
    return shared >= NEAR * (len(candidate) + len(members) - shared)


def _root(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position
