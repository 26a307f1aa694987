"""Metrics over graded rows: what a report holds, each with its interval and its count.

`rows` is always a table of graded documents: `fingerprint`, `score` (never null), `predicted` (null without a valid
answer), `reference`, `confidence` where the decision gives one, and `cluster` where documents are not independent.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.application.output import OutputField
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.clusters import Method, clusters_of
from llm_platform.evaluation.fields import grade_fields
from llm_platform.evaluation.statistics import BOOTSTRAP_NEEDS, bootstrap_bounds
from llm_platform.records import Interval, Record

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

BINS = 10
LARGEST_SLICES = 40
NO_VALUE = "(none)"


class LabelMetrics(Record):
    """How one label fares; a number is None where it is undefined (nothing predicted, or nothing there)."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    count: int
    predicted: int


class Confusion(Record):
    """Counts by reference (rows) and answer (columns); the last column counts documents with no valid answer."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Slice(Record):
    """The score on the documents whose attribute has one value."""

    attribute: str
    value: str
    accuracy: Interval


class FieldAccuracy(Record):
    """Share of documents in which one field is right."""

    field: str
    accuracy: Interval


class ReliabilityBin(Record):
    """Documents whose confidence lies in one tenth: what was claimed, and what was true."""

    lower: float
    upper: float
    confidence: float
    accuracy: Interval


class Reliability(Record):
    """Whether confidence can be believed.

    Attributes:
        expected_error: Expected calibration error: mean distance between confidence and accuracy over bins, weighted
            by count.
        bins: Ten equal widths, without the empty ones.
        brier: Mean squared distance between confidence and what was true; lower is better.
        brier_of_constant: The same, had every answer claimed the mean score; a confidence that does not beat it tells
            right answers from wrong ones no better than silence.
    """

    expected_error: float
    count: int
    bins: tuple[ReliabilityBin, ...]
    brier: float | None = None
    brier_of_constant: float | None = None


class Majority(Record):
    """What always giving the most frequent answer reaches on the evaluated documents."""

    answer: str
    rate: float
    count: int
    of: int


def majority(references: Sequence[str]) -> Majority:
    """The most frequent reference; of two equally frequent, the first by name.

    Raises:
        ContractBroken: there is no reference.
    """
    if not references:
        raise ContractBroken("Cannot name the most frequent answer of no references.")
    answer, count = min(Counter(references).items(), key=lambda item: (-item[1], item[0]))
    return Majority(answer=answer, rate=count / len(references), count=count, of=len(references))


def confusion(rows: pd.DataFrame, labels: Sequence[str]) -> Confusion:
    """Counts by reference and answer."""
    pairs = Counter(zip(rows["reference"].tolist(), _predictions(rows, labels), strict=True))
    counts = tuple(tuple(pairs[truth, given] for given in (*labels, None)) for truth in labels)
    return Confusion(labels=tuple(labels), counts=counts)


def label_metrics(table: Confusion) -> tuple[LabelMetrics, ...]:
    """Precision, recall and F1 of each label."""
    metrics = []
    for index, label in enumerate(table.labels):
        right = table.counts[index][index]
        count, predicted = sum(table.counts[index]), sum(row[index] for row in table.counts)
        metrics.append(
            LabelMetrics(
                label=label,
                precision=right / predicted if predicted else None,
                recall=right / count if count else None,
                f1=2 * right / (count + predicted) if count + predicted else None,
                count=count,
                predicted=predicted,
            )
        )
    return tuple(metrics)


def macro_f1(rows: pd.DataFrame, labels: Sequence[str], *, method: Method) -> Interval:
    """Mean F1 over the labels that occur in the references, with a bootstrap interval over texts.

    A resample is judged on the same labels: one that happens to lack a rare label has 0 for it, as scikit-learn counts
    it with these labels given. Left out, the rare labels, which are mostly the hard ones, would raise the mean of the
    resamples that lack them, and the interval would lie above what was measured.

    A document with no valid answer lowers its label's recall and nobody's precision. With fewer mistakes, or fewer
    right answers, than resampling can vary, the interval is at least as wide as that of the share of right answers,
    which never claims certainty.
    """
    import numpy as np

    clusters, right = clusters_of(rows), _right(rows, labels)
    columns = _counted(rows, labels)
    value = float(_mean_f1(columns.sum(axis=0, keepdims=True))[0])
    lower, upper = bootstrap_bounds(columns, clusters, _mean_f1, confidence=method.confidence)
    if _are_few(right, clusters):
        share = method.mean(right, clusters)
        lower, upper = min(lower, value - (share.value - share.lower)), max(upper, value + (share.upper - share.value))
    lower, upper = np.clip([min(lower, value), max(upper, value)], 0.0, 1.0).tolist()
    return Interval(value=value, lower=lower, upper=upper, confidence=method.confidence, count=len(rows))


def kappa(rows: pd.DataFrame, labels: Sequence[str], *, method: Method) -> Interval | None:
    """Cohen's kappa of answers with references, what of their agreement chance does not explain, by a bootstrap.

    With few mistakes or few right answers, and where people look again and again, chance agreement is taken as known
    and the interval of observed agreement is carried over: it is wider, and full agreement on ten documents has a lower
    bound well below 1. None where every document has, and gets, one label.

    Source: Cohen 1960.
    """
    import numpy as np

    clusters, right = clusters_of(rows), _right(rows, labels)
    columns = np.hstack([_counted(rows, labels), np.ones((len(rows), 1))])
    total = columns.sum(axis=0, keepdims=True)
    chance = float(_chance(total)[0])
    if chance >= 1.0:
        return None
    agreed = method.mean(right, clusters)
    value, lower, upper = ((part - chance) / (1.0 - chance) for part in (agreed.value, agreed.lower, agreed.upper))
    if method.looks == "once" and not _are_few(right, clusters):
        lower, upper = bootstrap_bounds(columns, clusters, _kappa, confidence=method.confidence)
    lower, upper = max(-1.0, min(lower, value)), max(upper, value)
    return agreed.model_copy(update={"value": value, "lower": lower, "upper": upper})


def label_share(rows: pd.DataFrame, label: str, *, of_answers: bool, method: Method) -> tuple[Interval | None, float]:
    """Precision (of the answers that give a label) or recall (of the documents that have it), and its effective count.

    None where no answer gives the label, or no document has it.
    """
    pairs = _pairs(rows, (label,))
    clusters = [
        cluster
        for (answer, truth), cluster in zip(pairs, clusters_of(rows), strict=True)
        if (answer if of_answers else truth) == label
    ]
    flags = [float(answer == truth) for answer, truth in pairs if (answer if of_answers else truth) == label]
    return (method.mean(flags, clusters), method.effective(flags, clusters)) if flags else (None, 0.0)


def _pairs(rows: pd.DataFrame, labels: Sequence[str]) -> list[tuple[str | None, str]]:
    return list(zip(_predictions(rows, labels), rows["reference"].tolist(), strict=True))


def slices(rows: pd.DataFrame, attributes: Sequence[str], *, method: Method) -> tuple[Slice, ...]:
    """The score by value of each attribute, largest first, at most `LARGEST_SLICES` values of one attribute.

    Raises:
        ContractBroken: an attribute is no column of the rows.
    """
    found: list[Slice] = []
    for attribute in attributes:
        parts = sorted(rows.groupby(attribute_values(rows, attribute)), key=lambda part: (-len(part[1]), str(part[0])))
        for value, part in parts[:LARGEST_SLICES]:
            accuracy = method.mean(part["score"].tolist(), clusters_of(part))
            found.append(Slice(attribute=attribute, value=str(value), accuracy=accuracy))
    return tuple(found)


def attribute_values(rows: pd.DataFrame, attribute: str) -> list[str]:
    """Values of one attribute; from the column `attributes` where there is one, so that any name is possible.

    Raises:
        ContractBroken: there is no such attribute.
    """
    if "attributes" in rows.columns:
        mappings = [json.loads(cell) if isinstance(cell, str) else cell for cell in rows["attributes"].tolist()]
        values = [mapping.get(attribute) if isinstance(mapping, Mapping) else None for mapping in mappings]
    elif attribute in rows.columns:
        values = rows[attribute].astype(object).where(rows[attribute].notna(), None).tolist()
    else:
        raise ContractBroken(
            f"Cannot slice by {attribute!r}: no such column beside the answers. Name it in 'source.attributes'."
        )
    return [NO_VALUE if value is None else str(value) for value in values]


def field_accuracy(
    rows: pd.DataFrame, fields: Mapping[str, OutputField], *, method: Method
) -> tuple[FieldAccuracy, ...]:
    """Accuracy of each field over the documents whose reference has it; fields that no reference has are left out."""
    flags: dict[str, list[float]] = {name: [] for name in fields}
    clusters: dict[str, list[str]] = {name: [] for name in fields}
    columns = (rows[name].tolist() for name in ("predicted", "reference"))
    for predicted, reference, cluster in zip(*columns, clusters_of(rows), strict=True):
        for name, grade in grade_fields(predicted, reference, fields).fields.items():
            if grade.score is not None:
                flags[name].append(grade.score)
                clusters[name].append(cluster)
    return tuple(
        FieldAccuracy(field=name, accuracy=method.mean(flags[name], clusters[name])) for name in fields if flags[name]
    )


def reliability(rows: pd.DataFrame, *, method: Method) -> Reliability | None:
    """Claimed confidence against accuracy, over valid answers that state one; None where none does.

    Source: Guo et al. 2017, equation 3; Brier 1950.
    """
    if "confidence" not in rows.columns:
        return None
    stated = rows.loc[rows["confidence"].notna() & rows["predicted"].notna()]
    if stated.empty:
        return None
    places = [min(int(value * BINS), BINS - 1) for value in stated["confidence"].tolist()]
    bins = []
    for place, part in sorted(stated.groupby(places), key=lambda pair: int(str(pair[0]))):
        accuracy = method.mean(part["score"].tolist(), clusters_of(part))
        lower = int(str(place)) / BINS
        claimed = math.fsum(part["confidence"].tolist()) / len(part)
        bins.append(ReliabilityBin(lower=lower, upper=lower + 1 / BINS, confidence=claimed, accuracy=accuracy))
    error = math.fsum(abs(b.accuracy.value - b.confidence) * b.accuracy.count for b in bins) / len(stated)
    scores, claims = stated["score"].tolist(), stated["confidence"].tolist()
    mean = math.fsum(scores) / len(stated)
    return Reliability(
        expected_error=error,
        count=len(stated),
        bins=tuple(bins),
        brier=math.fsum((claim - score) ** 2 for claim, score in zip(claims, scores, strict=True)) / len(stated),
        brier_of_constant=math.fsum((mean - score) ** 2 for score in scores) / len(stated),
    )


def _predictions(rows: pd.DataFrame, labels: Sequence[str]) -> list[str | None]:
    known = set(labels)
    return [value if value in known else None for value in rows["predicted"].tolist()]


def _right(rows: pd.DataFrame, labels: Sequence[str]) -> list[float]:
    return [float(answer == truth) for answer, truth in _pairs(rows, labels)]


def _are_few(right: Sequence[float], clusters: Sequence[str]) -> bool:
    """Fewer right or fewer wrong texts than a bootstrap can vary."""
    sides = ({cluster for cluster, flag in zip(clusters, right, strict=True) if flag == side} for side in (0.0, 1.0))
    return min(map(len, sides)) < BOOTSTRAP_NEEDS


def _counted(rows: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.float64]:
    """What each document adds to the right, true and given counts of each label that occurs in the references."""
    import numpy as np

    pairs = _pairs(rows, labels)
    truth = np.asarray([pair[1] for pair in pairs], dtype=object)[:, None] == np.asarray(labels, dtype=object)[None, :]
    given = np.asarray([pair[0] for pair in pairs], dtype=object)[:, None] == np.asarray(labels, dtype=object)[None, :]
    occur = truth.any(axis=0)
    truth, given = truth[:, occur], given[:, occur]
    return np.hstack([truth & given, truth, given]).astype(np.float64)


def _chance(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Agreement by chance; labels that no reference has agree with nothing."""
    import numpy as np

    _, truth, given = np.split(sums[:, :-1], 3, axis=1)
    found: NDArray[np.float64] = (truth * given).sum(axis=1) / sums[:, -1] ** 2
    return found


def _kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa from right, true and given counts and the number of documents; NaN where there is one label only."""
    import numpy as np

    right = np.split(sums[:, :-1], 3, axis=1)[0].sum(axis=1) / sums[:, -1]
    chance = _chance(sums)
    found: NDArray[np.float64] = np.where(
        chance < 1.0, (right - chance) / np.where(chance < 1.0, 1.0 - chance, 1.0), np.nan
    )
    return found


def _mean_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro-F1 from right, true and given counts, shape (resamples, 3 × labels); a label without any of them has 0."""
    import numpy as np

    right, truth, given = np.split(sums, 3, axis=1)
    mean: NDArray[np.float64] = (2.0 * right / np.maximum(truth + given, 1.0)).mean(axis=1)
    return mean
