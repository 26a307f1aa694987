"""Counted words under a logistic regression: what `scikit-learn` calls TfidfVectorizer and LogisticRegression.

Its import alone takes two seconds of CPU, as much as all else that a report of a few hundred labelled documents does,
and that of scipy's solver half of one; the method takes a hundred lines. A test holds it against the library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

WORD = re.compile(r"\w+|[^\w\s]")
"""One-letter words and signs are kept, so that no document is without a vocabulary."""
MOST_TERMS = 100_000
MOST_STEPS, FLAT = 2_000, 1e-6
"""Where the slope of the mean loss of a document is smaller in every direction, nothing more is to be found."""
PENALTY = 0.1
"""Half of this times the squared weights is added to the loss of all documents: mild, as suits rows of length one."""
Floats = npt.NDArray[np.float64]


class WordCounts:
    """Words and pairs of words, weighted by TF-IDF, with one set of weights for each label; fitted once."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        self._labels = sorted(set(labels))
        counted = [_terms(text) for text in texts]
        total: Counter[str] = Counter()
        for terms in counted:
            total.update(terms)
        kept = sorted(sorted(total), key=lambda term: -total[term])[:MOST_TERMS]
        self._places = {term: place for place, term in enumerate(sorted(kept))}
        found = np.zeros(len(self._places))
        for terms in counted:
            for term in terms:
                if (place := self._places.get(term)) is not None:
                    found[place] += 1
        self._rarity = np.log((1 + len(texts)) / (1 + found)) + 1
        truth = np.array([self._labels.index(label) for label in labels])
        self._weights = self._fitted(self._rows(counted), truth)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most likely label of each text."""
        scores = self._rows([_terms(text) for text in texts]).scores(self._weights)
        return [self._labels[place] for place in scores.argmax(axis=1)]

    def _rows(self, counted: Sequence[Counter[str]]) -> _Rows:
        """One sparse row of length one a text."""
        values: list[Floats] = [np.empty(0)]
        columns: list[int] = []
        ends = [0]
        for terms in counted:
            places = sorted((self._places[term], count) for term, count in terms.items() if term in self._places)
            row = np.array([(1 + np.log(count)) * self._rarity[place] for place, count in places])
            values.append(row / np.sqrt(np.dot(row, row)) if places else row)
            columns.extend(place for place, _ in places)
            ends.append(len(columns))
        return _Rows(np.concatenate(values), columns, ends, (len(counted), len(self._places)))

    def _fitted(self, rows: _Rows, truth: npt.NDArray[np.int_]) -> Floats:
        # Two labels have one set of weights, as one suffices.
        sets = 1 if len(self._labels) == 2 else len(self._labels)
        shape = (sets, len(self._places) + 1)
        is_label = np.eye(len(self._labels))[truth]

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            scores = rows.scores(weights)
            largest = scores.max(axis=1, keepdims=True)
            log_sum = largest + np.log(np.exp(scores - largest).sum(axis=1, keepdims=True))
            wrong = (np.exp(scores - log_sum) - is_label)[:, -sets:]
            slope = np.empty(shape)
            slope[:, :-1] = rows.sums(wrong) + PENALTY * weights[:, :-1]
            slope[:, -1] = wrong.sum(axis=0)
            likelihood = float((scores[np.arange(len(truth)), truth] - log_sum[:, 0]).sum())
            return 0.5 * PENALTY * float((weights[:, :-1] ** 2).sum()) - likelihood, slope.ravel()

        return smallest(loss, np.zeros(shape).ravel(), flat=FLAT * len(truth)).reshape(shape)


class _Rows:
    """A sparse matrix: one row a text, one column a term."""

    def __init__(self, values: Floats, columns: Sequence[int], ends: Sequence[int], shape: tuple[int, int]) -> None:
        from scipy.sparse import csr_matrix

        self._rows = csr_matrix((values, columns, ends), shape=shape)
        self._columns = self._rows.T.tocsr()

    def scores(self, weights: Floats) -> Floats:
        """Log-odds of each label in each row, up to a constant of the row."""
        found: Floats = self._rows @ weights[:, :-1].T + weights[:, -1]
        return np.hstack([np.zeros_like(found), found]) if found.shape[1] == 1 else found

    def sums(self, of: Floats) -> Floats:
        """Sum of the rows, each times its number, for each column of numbers."""
        found: Floats = (self._columns @ of).T
        return found


def smallest(loss: Callable[[Floats], tuple[float, Floats]], at: Floats, *, flat: float) -> Floats:
    """Where a smooth convex function with this value and slope is smallest, by L-BFGS.

    Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5.
    """
    value, slope = loss(at)
    moves: list[tuple[Floats, Floats]] = []
    for _ in range(MOST_STEPS):
        if np.abs(slope).max() <= flat:
            break
        way = -_inverse_times(moves, slope)
        falls, step = float(slope @ way), 1.0 if moves else 1.0 / float(np.abs(slope).sum())
        while True:
            new_value, new_slope = loss(at + step * way)
            if new_value <= value + 1e-4 * step * falls or step < 1e-12:
                break
            step /= 2
        move, bend = step * way, new_slope - slope
        at, value, slope = at + move, new_value, new_slope
        if step < 1e-12:
            break  # no further in these numbers
        if move @ bend > 0:
            moves = [*moves[-9:], (move, bend)]
    return at


def _inverse_times(moves: Sequence[tuple[Floats, Floats]], slope: Floats) -> Floats:
    """The inverse of the curvature that the last moves have shown, times a slope."""
    found, parts = slope.copy(), []
    for move, bend in reversed(moves):
        parts.append(float(move @ found) / float(move @ bend))
        found -= parts[-1] * bend
    if moves:
        move, bend = moves[-1]
        found *= float(move @ bend) / float(bend @ bend)
    for (move, bend), part in zip(moves, reversed(parts), strict=True):
        found += (part - float(bend @ found) / float(move @ bend)) * move
    return found


def _terms(text: str) -> Counter[str]:
    words = WORD.findall(text.lower())
    return Counter(words + [f"{first} {second}" for first, second in pairwise(words)])
