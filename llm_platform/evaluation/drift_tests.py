"""Two-sample tests with effect sizes: each says how large a difference is, and how likely by chance.

A two-sample test on texts follows Lopez-Paz and Oquab 2017 (classifier two-sample tests), cross-fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 10
RARE = 5
"""Fewest expected texts of a category in either window; rarer ones are put together (Cochran's rule)."""
FEATURES = 2**16
SPLITS = 2


@dataclass(frozen=True)
class Difference:
    """How two samples differ.

    Attributes:
        effect: Population stability index, difference of shares, or AUC; see the function that made it.
        p_value: Of the hypothesis that both come from one distribution.
        further: Other effect sizes, by name.
    """

    effect: float
    p_value: float
    further: dict[str, float] = field(default_factory=dict)


def numbers(reference: Sequence[float], current: Sequence[float]) -> Difference:
    """Kolmogorov-Smirnov test; effect: stability index over the reference's deciles."""
    import numpy as np
    from scipy.stats import ks_2samp

    before, after = np.asarray(reference, float), np.asarray(current, float)
    edges = _edges(before, after)
    then, now = (
        np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1).astype(float)
        for sample in (before, after)
    )
    test = ks_2samp(before, after)
    return Difference(stability(then, now), float(test.pvalue), {"ks": float(test.statistic)})


def categories(reference: Sequence[str], current: Sequence[str]) -> Difference:
    """Chi-square test; effect: stability index over the categories; further: Jensen-Shannon distance in [0, 1]."""
    import numpy as np
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2_contingency

    table = _pooled(Counter(reference), Counter(current))
    if table.shape[1] < 2:
        return Difference(0.0, 1.0, {"jensen_shannon": 0.0})
    test = chi2_contingency(table, correction=True)
    shares = table / table.sum(axis=1, keepdims=True)
    distance = float(np.nan_to_num(jensenshannon(shares[0], shares[1], base=2)))
    return Difference(stability(table[0], table[1]), float(test.pvalue), {"jensen_shannon": distance})


def shares(reference: Sequence[bool], current: Sequence[bool]) -> Difference:
    """Fisher's exact test; effect: absolute difference of the shares for which the flags hold."""
    from scipy.stats import fisher_exact

    hits, misses = (
        [sum(sample) for sample in (reference, current)],
        [len(sample) - sum(sample) for sample in (reference, current)],
    )
    difference = abs(hits[1] / len(current) - hits[0] / len(reference))
    return Difference(difference, float(fisher_exact([hits, misses]).pvalue))


def stability(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Population stability index of two rows of counts, less its expectation when nothing has changed; never negative.

    `sum((q - p) * ln(q / p))`; two samples of one distribution give `(bins - 1) * (1/n + 1/m)` on average, which in
    small windows alone would pass the usual limits.

    Source: Yurdakul and Naranjo 2020, section 3.
    """
    import numpy as np

    n, m, bins = float(reference.sum()), float(current.sum()), len(reference)
    # Half a text in every bin: an empty bin would make the index infinite.
    p, q = ((counts + 0.5) / (total + 0.5 * bins) for counts, total in ((reference, n), (current, m)))
    raw = float(np.sum((q - p) * np.log(q / p)))
    return max(0.0, raw - (bins - 1) * (1 / n + 1 / m))


def separation(reference: Sequence[str], current: Sequence[str], *, seed: int) -> Difference:
    """Whether a linear classifier over words and word pairs tells which window a text is from; effect: its AUC.

    Each half of the texts is scored by a classifier that has not seen it, so its Mann-Whitney test holds for any
    classifier; the p-value is twice the smaller of the two halves'. The classifier is the difference of the windows'
    centroids (Rocchio's): it takes milliseconds, and a regression was no better at telling windows apart.
    """
    import numpy as np
    from scipy.stats import mannwhitneyu

    features = _features([*reference, *current])
    window = np.repeat([0, 1], [len(reference), len(current)])
    half = np.concatenate([_halves(len(sample), seed + place) for place, sample in enumerate((reference, current))])
    found = []
    for part in range(SPLITS):
        centroids = [np.asarray(features[(half != part) & (window == side)].mean(axis=0)).ravel() for side in (0, 1)]
        scores = features[half == part] @ (centroids[1] - centroids[0])
        unseen = window[half == part]
        test = mannwhitneyu(scores[unseen == 1], scores[unseen == 0], alternative="greater")
        pairs = float((unseen == 1).sum() * (unseen == 0).sum())
        found.append((float(test.statistic) / pairs, float(test.pvalue)))
    area = sum(auc for auc, _ in found) / SPLITS
    return Difference(area, min(1.0, SPLITS * min(p for _, p in found)))


def unknown_words(reference: Sequence[Sequence[str]], current: Sequence[Sequence[str]], *, seed: int) -> Difference:
    """Whether texts hold more words that the reference does not know; effect: difference of the mean shares.

    The vocabulary is that of one half of the reference; the other half says how many unknown words are usual.
    """
    import numpy as np
    from scipy.stats import mannwhitneyu

    half = _halves(len(reference), seed)
    known = {word for text, part in zip(reference, half, strict=True) if part == 0 for word in text}
    usual = [_unknown(text, known) for text, part in zip(reference, half, strict=True) if part == 1]
    now = [_unknown(text, known) for text in current]
    test = mannwhitneyu(now, usual, alternative="greater")
    before, after = float(np.mean(usual)), float(np.mean(now))
    return Difference(max(0.0, after - before), float(test.pvalue), {"usual_share": before, "share_now": after})


def novelties(reference: Sequence[str], current: Sequence[str], *, seed: int) -> tuple[list[float], float]:
    """Distance in [0, 1] of every current text to its nearest reference text, and what 99 of 100 reference texts keep.

    The distance is one less the cosine of TF-IDF vectors; half of the reference is what distances are taken to, the
    other half says what is usual.
    """
    import numpy as np

    features = _features([*reference, *current])
    before, after = features[: len(reference)], features[len(reference) :]
    half = _halves(len(reference), seed)
    base = before[half == 0].T.tocsc()
    usual, now = (1.0 - (part @ base).max(axis=1).toarray().ravel() for part in (before[half == 1], after))
    return [round(float(value), 6) for value in np.clip(now, 0.0, 1.0)], float(np.quantile(usual, 0.99))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the chance of any false alarm among all of them stays below the level it is held against.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    found, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = largest
    return found


def _edges(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper ends of the bins: each value its own where there are few, else the reference's deciles.

    A reference that has one value for most texts gets a bin below that value, or a fall would be in the same bin.
    """
    import numpy as np

    values = np.unique(np.concatenate([before, after]))
    if len(values) <= BINS:
        return values[:-1]
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    below = [np.nextafter(edges[0], -np.inf)] if edges[0] == before.min() else []
    return np.concatenate([below, edges])


def _pooled(reference: Counter[str], current: Counter[str]) -> NDArray[np.float64]:
    """Counts per category in two rows; categories too rare for the chi-square approximation are one column."""
    import numpy as np

    names = sorted(reference | current)
    table = np.array([[sample[name] for name in names] for sample in (reference, current)], float)
    smaller = table.sum(axis=1).min() / table.sum()
    rare = table.sum(axis=0) * smaller < RARE
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    return pooled[:, pooled.sum(axis=0) > 0]


def _halves(count: int, seed: int) -> NDArray[np.int64]:
    import numpy as np

    return np.random.default_rng(seed).permutation(np.arange(count) % 2)


def _unknown(text: Sequence[str], known: set[str]) -> float:
    return sum(word not in known for word in text) / len(text) if text else 0.0


def _features(texts: Sequence[str]) -> NDArray[np.float64]:
    """Sparse TF-IDF rows of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashed = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), alternate_sign=False, norm=None)
    weighted: NDArray[np.float64] = TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts)).tocsr()
    return weighted
