"""Labels until it is decided, and false promotions: `python -m llm_platform_tests.benchmarks.decisions [--full]`.

Each method gets the same differences of two variants and is looked at after every label, as a rollout is. Beside what
decides here stand what decided before, and what is published:

- before: the Beta mixture of right-or-wrong scores, with [-1, 1] moved to [0, 1] (Robbins 1970)
- Dirichlet: the mixture over (wins, ties, losses) against the largest likelihood of the margin (`mixtures.py`)
- Bernstein: predictable plug-in empirical Bernstein (Waudby-Smith and Ramdas 2024, theorem 2)
- hedged: hedged capital with plug-in bets (the same, theorem 3)
- portfolio: bets of all sizes averaged (`betting.py`), which decides
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_platform.evaluation.betting import log_fortune
from llm_platform.evaluation.sample_ratio import log_mixture
from llm_platform_tests.benchmarks.mixtures import paired_log_evidence, unpaired_log_evidence

Floats = NDArray[np.float64]
ALPHA = 0.05
LIMIT = math.log(1.0 / ALPHA)
WHOLE = np.array([-1.0, 0.0, 1.0])
MOST = 400_000


@dataclass(frozen=True)
class Setting:
    """How two variants differ: chances of each difference, and the margin that is to be cleared."""

    name: str
    chances: dict[float, float]
    margin: float = 0.0
    limit: int | None = None


PAIRED = (
    Setting("wins 7 %, losses 3 %, margin 0", {1.0: 0.07, 0.0: 0.90, -1.0: 0.03}, limit=1_300),
    Setting("wins 12 %, losses 6 %, margin 0", {1.0: 0.12, 0.0: 0.82, -1.0: 0.06}, limit=1_050),
    Setting("wins 5 %, losses 5 %, margin 1 point", {1.0: 0.05, 0.0: 0.90, -1.0: 0.05}, margin=0.01, limit=27_000),
)
PARTIAL = (
    Setting(
        "five fields, one or two change, margin 0",
        {0.4: 0.03, 0.2: 0.12, 0.0: 0.77, -0.2: 0.06, -0.4: 0.02},
    ),
    Setting(
        "word overlap, small steps, margin 1 point",
        {0.1: 0.2, 0.05: 0.2, 0.0: 0.2, -0.05: 0.2, -0.1: 0.2},
        margin=0.01,
    ),
)


def before(differences: Floats, margin: float) -> Floats:
    """Logarithm of the evidence of what decided before, after each label."""
    count = np.arange(1, len(differences) + 1)
    return _before((differences.cumsum() + count) / 2.0, count, margin)


def _before(sums: Floats, count: Floats, margin: float) -> Floats:
    mean = (1.0 - margin) / 2.0
    mixture = log_mixture(np.stack([sums, count - sums], axis=-1), np.full(2, 0.5))
    return mixture - sums * math.log(mean) - (count - sums) * math.log1p(-mean)


def dirichlet(differences: Floats, margin: float) -> Floats:
    """The same of the Dirichlet mixture; partial differences add to wins or losses what they are."""
    wins, losses = np.maximum(differences, 0.0).cumsum(), np.maximum(-differences, 0.0).cumsum()
    ties = np.arange(1, len(differences) + 1) - wins - losses
    return paired_log_evidence(wins, ties, losses, expected=-margin)


def portfolio(differences: Floats, margin: float) -> Floats:
    """The same of what decides."""
    values, places = np.unique(differences, return_inverse=True)
    weights = np.eye(len(values))[places].cumsum(axis=0)
    return np.concatenate(
        [log_fortune(values, part, -margin) for part in np.array_split(weights, len(weights) // 2000 + 1)]
    )


def hedged(differences: Floats, margin: float) -> Floats:
    """The same of hedged capital, against means of at most the margin."""
    scores, mean = (differences + 1.0) / 2.0, (1.0 - margin) / 2.0
    bets = np.minimum(_plug_in(scores), 0.5 / mean)
    return np.log1p(bets * (scores - mean)).cumsum() + math.log(0.5)


def bernstein(differences: Floats, margin: float) -> Floats:
    """Empirical Bernstein, as evidence: it reaches the limit where its lower bound reaches the margin."""
    scores, mean = (differences + 1.0) / 2.0, (1.0 - margin) / 2.0
    bets = np.minimum(_plug_in(scores), 0.5)
    means = (0.5 + scores.cumsum()) / (np.arange(1, len(scores) + 1) + 1)
    earlier = np.concatenate([[0.5], means[:-1]])
    spent = (4.0 * (scores - earlier) ** 2 * (-np.log1p(-bets) - bets) / 4.0).cumsum()
    lower = ((bets * scores).cumsum() - math.log(2.0 / ALPHA) - spent) / bets.cumsum()
    return np.where(lower >= mean, LIMIT, 0.0)


def _plug_in(scores: Floats) -> Floats:
    """Bets for the variance that was seen before each score."""
    count = np.arange(1, len(scores) + 1)
    means = (0.5 + scores.cumsum()) / (count + 1)
    variances = (0.25 + ((scores - means) ** 2).cumsum()) / (count + 1)
    known = np.concatenate([[0.25], variances[:-1]])
    return np.sqrt(2.0 * math.log(2.0 / ALPHA) / (known * count * np.log(count + 1)))


METHODS: dict[str, Callable[[Floats, float], Floats]] = {
    "before": before,
    "Dirichlet": dirichlet,
    "Bernstein": bernstein,
    "hedged": hedged,
    "portfolio": portfolio,
}


def labels_at_the_rates(name: str, setting: Setting) -> int:
    """Labels until the method decides where what is measured is exactly what is true."""
    values = np.array(sorted(setting.chances))
    chances = np.array([setting.chances[value] for value in values.tolist()])
    wins, losses = (float((np.maximum(sign * values, 0.0) * chances).sum()) for sign in (1.0, -1.0))

    def evidence(count: float) -> float:
        if name == "before":
            return float(_before(np.array((wins - losses + 1.0) / 2.0 * count), np.array(count), setting.margin))
        if name == "Dirichlet":
            return float(
                paired_log_evidence(wins * count, (1 - wins - losses) * count, losses * count, expected=-setting.margin)
            )
        return float(log_fortune(values, chances * count, -setting.margin))

    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if evidence(middle) >= LIMIT else (middle, high)
    return high


def simulated(setting: Setting, method: Callable[[Floats, float], Floats], *, runs: int, longest: int) -> float:
    """Median labels until the method decides, over runs that all methods see alike."""
    values = np.array(list(setting.chances))
    found = []
    for run in range(runs):
        drawn = np.random.default_rng(run).choice(values, p=list(setting.chances.values()), size=longest)
        reached = np.flatnonzero(method(drawn, setting.margin) >= LIMIT)
        found.append(float(reached[0] + 1) if len(reached) else math.inf)
    return float(np.median(found))


def false_promotions(margin: float, *, rollouts: int, labels: int) -> dict[str, float]:
    """Share of rollouts that are promoted at some look, of challengers exactly as much worse as is just not allowed."""
    generator = np.random.default_rng(99)
    promoted = dict.fromkeys(("z-test at every label", "before", "Dirichlet", "portfolio"), 0)
    count = np.arange(1, labels + 1)
    for start in range(0, rollouts, 500):
        size = min(500, rollouts - start)
        outcomes = generator.choice([1, 0, -1], p=[0.05, 0.9 - margin, 0.05 + margin], size=(size, labels))
        wins, losses = (outcomes == 1).cumsum(axis=1), (outcomes == -1).cumsum(axis=1)
        sums = wins - losses
        above = sums > -margin * count
        spread = np.maximum(wins + losses - sums**2 / count, 1.0)
        evidences = {
            "z-test at every label": np.where(
                (count >= 50) & ((sums + margin * count) / np.sqrt(spread) >= 1.96), LIMIT, 0.0
            ),
            "before": _before((sums + count) / 2.0, np.broadcast_to(count, sums.shape), margin),
            "Dirichlet": paired_log_evidence(wins, count - wins - losses, losses, expected=-margin),
            "portfolio": _fortunes(wins, losses, count, margin),
        }
        for name, evidence in evidences.items():
            promoted[name] += int((above & (evidence >= LIMIT)).any(axis=1).sum())
    return {name: found / rollouts for name, found in promoted.items()}


def _fortunes(wins: NDArray[np.int64], losses: NDArray[np.int64], count: NDArray[np.int64], margin: float) -> Floats:
    """`log_fortune` of every look; equal counts are computed once."""
    ties = np.broadcast_to(count, wins.shape) - wins - losses
    states = np.stack([losses, ties if margin else np.zeros_like(ties), wins], axis=-1).reshape(-1, 3)
    base = int(states.max()) + 1
    codes, places = np.unique((states[:, 0] * base + states[:, 1]) * base + states[:, 2], return_inverse=True)
    weights = np.stack([codes // base**2, codes // base % base, codes % base], axis=-1).astype(np.float64)
    parts = [log_fortune(WHOLE, part, -margin) for part in np.array_split(weights, len(weights) // 5000 + 1)]
    return np.concatenate(parts)[places].reshape(wins.shape)


def unpaired_labels(rates: tuple[float, float], share: float) -> int:
    """Labels until it is decided where each document has one answer, a share of them the challenger's."""
    low, high = 10, MOST
    while high - low > 1:
        middle = (low + high) // 2
        counts = (middle * (1.0 - share), middle * share)
        sums = (rates[0] * counts[0], rates[1] * counts[1])
        low, high = (low, middle) if unpaired_log_evidence(sums, counts, expected=0.0) >= LIMIT else (middle, high)
    return high


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in texts
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    sys.stdout.write(f"\n{title}\n\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def labels_text(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "not decided"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10,000 rollouts and every simulated row; minutes")
    full = parser.parse_args().full
    began = time.monotonic()
    exact = ("before", "Dirichlet", "portfolio")
    table(
        "Labels until decided at 0.95, if what is measured is what is true",
        ("paired, whole scores", *exact, "limit"),
        [
            (
                one.name,
                *(labels_text(labels_at_the_rates(name, one)) for name in exact),
                labels_text(one.limit or math.nan),
            )
            for one in PAIRED
        ],
    )
    runs = 100 if full else 15
    rows = []
    for one in (*PAIRED[: 3 if full else 2], *PARTIAL):
        longest = 60_000 if one.margin and one in PAIRED else 30_000
        rows.append([one.name])
        for method in METHODS.values():
            some = max(5, runs // 10) if method is portfolio and longest > 30_000 else runs
            rows[-1].append(labels_text(simulated(one, method, runs=some, longest=longest)))
    table(f"Labels until decided, median of {runs} simulated rollouts", ("paired", *METHODS), rows)
    table(
        "Labels until decided where each document has one answer (no pairs)",
        ("rates", "challenger on 50 %", "challenger on 10 %"),
        [
            (f"{a:.0%} and {b:.0%}", *(labels_text(unpaired_labels((a, b), share)) for share in (0.5, 0.1)))
            for a, b in ((0.70, 0.80), (0.80, 0.84))
        ],
    )
    rollouts, labels = (10_000, 2_000) if full else (1_000, 500)
    found = {margin: false_promotions(margin, rollouts=rollouts, labels=labels) for margin in (0.0, 0.01)}
    table(
        f"False promotions of {rollouts:,} rollouts, looked at after each of {labels:,} labels (at most 5 % allowed)",
        ("truth", *found[0.0]),
        [
            (f"challenger worse by {margin:.0%}, margin {margin:.0%}", *(f"{share:.2%}" for share in shares.values()))
            for margin, shares in found.items()
        ],
    )
    sys.stdout.write(f"\n{time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
