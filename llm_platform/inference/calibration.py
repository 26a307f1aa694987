"""Correcting label log-probabilities by what the training split shows.

A small model says one label too often. One scale and one bias per label move the decision to where the training
examples say it belongs; nothing is sent again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from llm_platform.errors import SpecificationError
from llm_platform.records import Calibration, content_hash

MINIMUM_EXAMPLES = 20
MAXIMUM_SCALE = 100.0

# Weak priors towards "no correction": they bound the fit where the training examples are separable.
_SCALE_PRIOR = 1.0
_BIAS_PRIOR = 0.01


def calibrated(label_logprobs: Mapping[str, float], calibration: Calibration | None) -> tuple[str, float]:
    """The most probable label and its probability; the first in order wins a tie."""
    if calibration is None:
        labels = list(label_logprobs)
        values = [label_logprobs[label] for label in labels]
    else:
        labels = list(calibration.labels)
        values = [
            calibration.scale * label_logprobs[label] + bias
            for label, bias in zip(labels, calibration.bias, strict=True)
        ]
    largest = max(values)
    total = sum(math.exp(value - largest) for value in values)
    return labels[values.index(largest)], 1.0 / total


class ScoredRow(Protocol):
    """What of a stored answer a fit needs; a `Completion` is one."""

    @property
    def document_id(self) -> str:
        """Which document it answers."""

    @property
    def label_logprobs(self) -> Mapping[str, float] | None:
        """Label → log-probability."""


def fit_calibration(
    rows: Iterable[ScoredRow],
    references: Mapping[str, str],
    labels: Sequence[str],
    *,
    references_version: str | None = None,
) -> Calibration:
    """Fit one scale and a bias per label by regularized multinomial logistic regression.

    Args:
        rows: Answers with `label_logprobs`; others, and those without a reference, are left out.
        references: Document id → label, of the training split only.
        labels: All labels, in the order of the result.
        references_version: Stored with the result; a hash of the pairs used where not given.

    Raises:
        SpecificationError: fewer than 20 usable examples, or examples of one label only.
    """
    pairs = sorted(
        (row.document_id, references[row.document_id], tuple(row.label_logprobs[label] for label in labels))
        for row in rows
        if row.label_logprobs is not None and references.get(row.document_id) in labels
    )
    counts = Counter(label for _, label, _ in pairs)
    if len(pairs) < MINIMUM_EXAMPLES or len(counts) < 2:
        have = ", ".join(f"{count} of {label!r}" for label, count in sorted(counts.items())) or "none"
        raise SpecificationError(
            f"A calibration needs at least {MINIMUM_EXAMPLES} answered training examples of at least two labels; "
            f"there are {len(pairs)} ({have}). Add references to the training split, or take 'calibrate' out of the "
            "variant."
        )
    scale, bias = _fit(
        np.array([values for _, _, values in pairs]), np.array([labels.index(label) for _, label, _ in pairs])
    )
    version = references_version or content_hash([[document, label] for document, label, _ in pairs])
    return Calibration(labels=tuple(labels), scale=scale, bias=bias, examples=len(pairs), references_version=version)


def _fit(logprobs: np.ndarray, targets: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Minimize the mean negative log-likelihood; starts at "no correction", so equal input gives equal output."""
    from scipy.optimize import minimize

    count, classes = logprobs.shape
    chosen = np.eye(classes)[targets]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = parameters[0], parameters[1:]
        scores = scale * logprobs + bias
        scores = scores - scores.max(axis=1, keepdims=True)
        probabilities = np.exp(scores)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        likelihood = -np.log(np.maximum((probabilities * chosen).sum(axis=1), 1e-300)).sum()
        error = probabilities - chosen
        value = likelihood + 0.5 * _SCALE_PRIOR * (scale - 1.0) ** 2 + 0.5 * _BIAS_PRIOR * (bias @ bias)
        gradient = np.concatenate(
            [[(error * logprobs).sum() + _SCALE_PRIOR * (scale - 1.0)], error.sum(axis=0) + _BIAS_PRIOR * bias]
        )
        return value / count, gradient / count

    start = np.concatenate([[1.0], np.zeros(classes)])
    bounds = [(0.0, MAXIMUM_SCALE)] + [(None, None)] * classes
    fitted = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    # Twelve digits: the last bits differ between processors, and a calibration is part of a release's identity.
    return round(float(fitted[0]), 12), tuple(round(float(value), 12) for value in fitted[1:])
