"""How far people agree beyond chance."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959964


@dataclass(frozen=True)
class Agreement:
    """How far two people agree on what both judged.

    Attributes:
        documents: Texts that both judged and neither was unsure of.
        agreed: Share of those on which they say the same.
        kappa: Cohen's kappa; None where chance alone would make them agree on everything.
        lower, upper: Its 95 % interval, by the large-sample standard error; it is wide below some 50 documents.
        pairs: (what the first says, what the second says) → number of documents.
    """

    first: str
    second: str
    documents: int
    agreed: float
    kappa: float | None
    lower: float | None
    upper: float | None
    pairs: dict[tuple[str, str], int]


def agreements(verdicts: Sequence[Mapping[str, Any]], *, by_label: bool) -> list[Agreement]:
    """Agreement of each two people who judged the same texts, those with most in common first.

    Args:
        verdicts: Columns by, fingerprint, judged, verdict, answer: one row per answer judged, each person's first
            verdicts, given before seeing anybody else's.
        by_label: Compare the answers held right (labels). Otherwise compare, answer by answer, whether it was held
            right: two people never type the same free text.
    """
    said: dict[str, dict[tuple[str, str], str]] = {}
    for row in verdicts:
        category = _category(row, by_label=by_label)
        if category is not None:
            key = (str(row["fingerprint"]), "" if by_label else str(row["judged"]))
            said.setdefault(str(row["by"]), {})[key] = category
    found = [
        agreement(
            first,
            second,
            [(said[first][key], said[second][key]) for key in sorted(said[first].keys() & said[second].keys())],
        )
        for first, second in itertools.combinations(sorted(said), 2)
    ]
    return sorted((one for one in found if one.documents), key=lambda one: (-one.documents, one.first, one.second))


def _category(row: Mapping[str, object], *, by_label: bool) -> str | None:
    if by_label:
        return None if row["answer"] is None else str(row["answer"])
    if row["verdict"] == "cannot_tell" or row["judged"] is None:
        return None
    return "right" if row["verdict"] == "right" else "not right"


def agreement(first: str, second: str, said: Sequence[tuple[str, str]]) -> Agreement:
    """Agreement of two people; `said` has one pair per document.

    Source: Cohen 1960; standard error `sqrt(p (1 - p) / n) / (1 - e)` with observed agreement p and expected e.
    """
    count = len(said)
    pairs = Counter(said)
    if not count:
        return Agreement(first, second, 0, math.nan, None, None, None, {})
    observed = sum(number for (one, other), number in pairs.items() if one == other) / count
    ours, theirs = Counter(one for one, _ in said), Counter(other for _, other in said)
    expected = sum(ours[name] * theirs[name] for name in ours) / count**2
    if math.isclose(expected, 1.0):
        return Agreement(first, second, count, observed, None, None, None, dict(pairs))
    kappa = (observed - expected) / (1 - expected)
    error = math.sqrt(observed * (1 - observed) / count) / (1 - expected)
    lower, upper = max(-1.0, kappa - Z_95 * error), min(1.0, kappa + Z_95 * error)
    return Agreement(first, second, count, observed, kappa, lower, upper, dict(pairs))
