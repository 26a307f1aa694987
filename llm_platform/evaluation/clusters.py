"""Which documents are not independent of each other, and how much evidence they carry together."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.application.evaluation import Looks
from llm_platform.evaluation.fields import normalized
from llm_platform.evaluation.sequential import sequence_bounds
from llm_platform.evaluation.statistics import (
    BOOTSTRAP_NEEDS,
    bootstrap_bounds,
    effective_count,
    mean_score,
    wilson_bounds,
)
from llm_platform.records import Interval

if TYPE_CHECKING:
    import pandas as pd

NOT_WORDS = re.compile(r"[\W_]+")
CLUSTER = "cluster"


def text_cluster(text: str) -> str:
    """Equal for texts that differ only in punctuation, case and white space, such as one mail sent twice.

    Digits count: two invoices that differ in their total are two documents. A text without any word is a cluster of
    its own.
    """
    words = NOT_WORDS.sub(" ", normalized(text)).strip()
    return hashlib.sha256((words or text).encode()).hexdigest()[:16]


def cluster_of(text: str | None, attributes: str | None, *, by: str | None) -> str | None:
    """The cluster of a document: its value of the attribute `by`, or, where none is named, what its text says.

    Args:
        text: None where it is not known.
        attributes: JSON of the document's attributes.

    Returns:
        None where nothing is known; the document then stands for its own text.
    """
    if by is None:
        return text_cluster(text) if isinstance(text, str) else None
    value = json.loads(attributes).get(by) if isinstance(attributes, str) else None
    return value if value is None or isinstance(value, str) else str(value)


def clusters_of(rows: pd.DataFrame) -> list[str]:
    """The cluster of each row: its column `cluster`, or the fingerprint where there is none."""
    fingerprints = [str(value) for value in rows["fingerprint"].tolist()]
    if CLUSTER not in rows.columns:
        return fingerprints
    given = rows[CLUSTER].tolist()
    return [value if isinstance(value, str) else own for value, own in zip(given, fingerprints, strict=True)]


@dataclass(frozen=True)
class RightSums:
    """What is to be known of right-or-wrong scores, however many: a store gives it without giving the rows.

    Attributes:
        count, right: Documents, and those that are right.
        clusters: How many clusters they are in.
        squares, right_squares, products: Sums over clusters: of squared sizes, of squared numbers of right ones, and of
            sizes times numbers of right ones.
    """

    count: int = 0
    right: int = 0
    clusters: int = 0
    squares: int = 0
    right_squares: int = 0
    products: int = 0

    def with_cluster(self, size: int, right: int, *, times: int = 1) -> RightSums:
        """The same with a cluster more, or with `times=-1` without one that it has."""
        return RightSums(
            self.count + times * size,
            self.right + times * right,
            self.clusters + times,
            self.squares + times * size * size,
            self.right_squares + times * right * right,
            self.products + times * size * right,
        )

    @classmethod
    def of(cls, flags: Sequence[bool], clusters: Sequence[str]) -> RightSums:
        """Of rows."""
        sizes, right = Counter(clusters), Counter(one for flag, one in zip(flags, clusters, strict=True) if flag)
        sums = cls()
        for cluster, size in sizes.items():
            sums = sums.with_cluster(size, right[cluster])
        return sums

    @property
    def all_right(self) -> RightSums:
        """The same documents, all of them right."""
        return RightSums(self.count, self.count, self.clusters, self.squares, self.squares, self.squares)

    @property
    def fewest(self) -> float:
        """Effective number of documents, were each cluster one answer; see `effective_count`."""
        return self.count**2 / self.squares

    @property
    def measured(self) -> float:
        """The same with the likeness that is measured; see `measured_count`."""
        mean = self.right / self.count
        apart = mean * (1.0 - mean) / self.count
        if self.clusters < 2 or apart <= 0.0:
            return self.fewest
        squares = self.right_squares - 2.0 * mean * self.products + mean * mean * self.squares
        together = squares / self.count**2 * self.clusters / (self.clusters - 1)
        count = float(self.count)
        return min(count, max(self.fewest, count * apart / together)) if together > 0.0 else count


@dataclass(frozen=True)
class Method:
    """How intervals of mean scores are made.

    Attributes:
        looks: `any` gives confidence sequences, which hold at all looks together.
        shared: Documents of a cluster share one answer and count once, as near-equal texts do; False where they are
            merely alike, as documents of one customer are: then the scores say how much.
    """

    confidence: float
    looks: Looks = "once"
    shared: bool = True

    def mean(self, scores: Sequence[float], clusters: Sequence[str]) -> Interval:
        """Mean of scores in [0, 1] with its interval.

        Raises:
            ContractBroken: there is no score, or not one cluster per score.
        """
        plain = mean_score(scores, clusters, confidence=self.confidence)
        if self.looks == "once" and self.shared:
            return plain
        count = self.effective(scores, clusters)
        if self.looks == "any":
            lower, upper = sequence_bounds(plain.value, count, confidence=self.confidence)
        elif _varies(scores, clusters):
            lower, upper = _resampled(scores, clusters, confidence=self.confidence)
        else:
            lower, upper = wilson_bounds(plain.value, count, confidence=self.confidence)
        lower, upper = min(lower, plain.value), max(upper, plain.value)
        return plain.model_copy(update={"lower": lower, "upper": upper})

    def share(self, sums: RightSums) -> Interval:
        """`mean` of right-or-wrong scores of which only the sums are known; there is at least one."""
        value, count = sums.right / sums.count, self.effective_of(sums)
        if self.looks == "any":
            lower, upper = sequence_bounds(value, count, confidence=self.confidence)
        else:
            lower, upper = wilson_bounds(value, count, confidence=self.confidence)
        lower, upper = min(lower, value), max(upper, value)
        return Interval(value=value, lower=lower, upper=upper, confidence=self.confidence, count=sums.count)

    def effective_of(self, sums: RightSums) -> float:
        """`effective` of the same."""
        if not sums.count:
            return 0.0
        return sums.fewest if self.shared else sums.measured

    def effective(self, scores: Sequence[float], clusters: Sequence[str]) -> float:
        """Number of independent documents that carry as much evidence as these."""
        if not scores:
            return 0.0
        return effective_count(clusters) if self.shared else measured_count(scores, clusters)


def measured_count(scores: Sequence[float], clusters: Sequence[str]) -> float:
    """Effective number of documents whose likeness within clusters is measured on their scores.

    The variance of the mean over documents, as if independent, divided by its variance over clusters; never more than
    there are documents, and never fewer than if each cluster were one answer.

    Source: Rao and Scott 1992, equation 2.
    """
    count, fewest = float(len(scores)), effective_count(clusters)
    mean = sum(scores) / count
    sums: dict[str, float] = defaultdict(float)
    for score, cluster in zip(scores, clusters, strict=True):
        sums[cluster] += score - mean
    apart = sum((score - mean) ** 2 for score in scores) / count**2
    if len(sums) < 2 or apart <= 0.0:
        return fewest
    together = sum(value * value for value in sums.values()) / count**2 * len(sums) / (len(sums) - 1)
    return min(count, max(fewest, count * apart / together)) if together > 0.0 else count


def _varies(scores: Sequence[float], clusters: Sequence[str]) -> bool:
    """Enough clusters on either side of perfect for a bootstrap, and scores that are not only right or wrong."""
    imperfect = {cluster for score, cluster in zip(scores, clusters, strict=True) if score < 1.0}
    nonzero = {cluster for score, cluster in zip(scores, clusters, strict=True) if score > 0.0}
    is_binary = all(score in (0.0, 1.0) for score in scores)
    return not is_binary and min(len(imperfect), len(nonzero)) >= BOOTSTRAP_NEEDS


def _resampled(scores: Sequence[float], clusters: Sequence[str], *, confidence: float) -> tuple[float, float]:
    import numpy as np

    columns = np.column_stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))])
    return bootstrap_bounds(columns, clusters, lambda sums: sums[:, 0] / sums[:, 1], confidence=confidence)
