"""How far two collections agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence


def overlap(answer: Collection[str], reference: Collection[str]) -> float:
    """F1 of two sets: twice what they share over the sum of their sizes; 1.0 of two empty ones.

    Source: Dice 1945.
    """
    given, truth = set(answer), set(reference)
    return 2.0 * len(given & truth) / (len(given) + len(truth)) if given or truth else 1.0


def bag_overlap(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two bags, in which an item counts as often as it occurs; 1.0 of two empty ones."""
    shared = (Counter(answer) & Counter(reference)).total()
    total = len(answer) + len(reference)
    return 2.0 * shared / total if total else 1.0


def longest_common_subsequence(answer: Sequence[str], reference: Sequence[str]) -> int:
    """Length of the longest sequence that is in both, in order, with gaps; time is the product of the lengths."""
    best = [0] * (len(reference) + 1)
    for item in answer:
        diagonal = 0
        for place, other in enumerate(reference, start=1):
            diagonal, best[place] = best[place], diagonal + 1 if item == other else max(best[place], best[place - 1])
    return best[-1]
