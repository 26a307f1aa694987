"""Counted words under a logistic regression: what `scikit-learn` calls TfidfVectorizer and LogisticRegression.

Its import alone takes two seconds of CPU, as much as all else that a report of a few hundred labelled documents does;
the method takes eighty lines. A test holds the two against each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

WORD = re.compile(r"\w+|[^\w\s]")
"""One-letter words and signs are kept, so that no document is without a vocabulary."""
MOST_TERMS = 100_000
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
        if not texts:
            return []
        scores = self._scores(self._rows([_terms(text) for text in texts]), self._weights)
        return [self._labels[place] for place in scores.argmax(axis=1)]

    def _rows(self, counted: Sequence[Counter[str]]) -> Any:
        """One sparse row of length one a text."""
        from scipy.sparse import csr_matrix

        values: list[float] = []
        columns: list[int] = []
        ends = [0]
        for terms in counted:
            places = sorted((self._places[term], count) for term, count in terms.items() if term in self._places)
            row = np.array([(1 + np.log(count)) * self._rarity[place] for place, count in places])
            length = float(np.sqrt(np.dot(row, row)))
            values.extend(row / length if length else row)
            columns.extend(place for place, _ in places)
            ends.append(len(columns))
        return csr_matrix((values, columns, ends), shape=(len(counted), len(self._places)))

    def _scores(self, rows: Any, weights: Floats) -> Floats:
        """Log-odds of each label, up to a constant of each row. Two labels have one set of weights, as one suffices."""
        scores: Floats = rows @ weights[:, :-1].T + weights[:, -1]
        return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores

    def _fitted(self, rows: Any, truth: npt.NDArray[np.int_]) -> Floats:
        from scipy.optimize import minimize

        sets = 1 if len(self._labels) == 2 else len(self._labels)
        shape = (sets, len(self._places) + 1)
        is_label = np.eye(len(self._labels))[truth]

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            scores = self._scores(rows, weights)
            largest = scores.max(axis=1, keepdims=True)
            log_sum = largest + np.log(np.exp(scores - largest).sum(axis=1, keepdims=True))
            wrong = (np.exp(scores - log_sum) - is_label)[:, -sets:]
            slope = np.empty(shape)
            slope[:, :-1] = (rows.T @ wrong).T + PENALTY * weights[:, :-1]
            slope[:, -1] = wrong.sum(axis=0)
            likelihood = float((scores[np.arange(len(truth)), truth] - log_sum[:, 0]).sum())
            return 0.5 * PENALTY * float((weights[:, :-1] ** 2).sum()) - likelihood, slope.ravel()

        options = {"maxiter": 2_000, "gtol": 1e-6, "ftol": 1e-14}
        found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
        weights: Floats = found.x.reshape(shape)
        return weights


def _terms(text: str) -> Counter[str]:
    words = WORD.findall(text.lower())
    return Counter(words + [f"{first} {second}" for first, second in pairwise(words)])
