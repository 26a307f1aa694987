"""What the stored answers of one release took: tokens, time and money."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.statistics import bootstrap_bounds
from llm_platform.evaluation.whole import Whole
from llm_platform.records import InferenceRun, Interval, Prices, Record, TokenUsage
from llm_platform.records.prices import NO_PRICES

if TYPE_CHECKING:
    import pandas as pd

SLOWEST = 0.95


class Effort(Record):
    """What the stored answers took; a document whose answer was shared or reused took nothing.

    Attributes:
        cost_usd: Price of the time and tokens of the release's runs; None without a price or without a run.
        tokens_per_second: Prompt and completion tokens a second of the release's runs; None without a run.
        cost_usd_per_document: By documents that the runs stored an answer for; a price has no sampling error, so the
            interval is one point.
        cost_usd_per_correct_answer: The same over the share of right answers; as uncertain as that share.
        latency_p95: Time within which 95 of 100 answers came, with the interval of order statistics; None while there
            are too few answers for an upper bound.
        latency_seconds_per_correct_answer: Time of the evaluated documents over their scores.
    """

    usage: TokenUsage
    cost_usd: float | None
    tokens_per_second: float | None
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None
    cost_usd_per_document: Interval | None = None
    cost_usd_per_correct_answer: Interval | None = None
    latency_p95: Interval | None = None
    latency_seconds_per_correct_answer: Interval | None = None


def measured_effort(
    whole: Whole,
    runs: Sequence[InferenceRun],
    *,
    prices: Prices = NO_PRICES,
    graded: pd.DataFrame | None = None,
    accuracy: Interval | None = None,
    confidence: float = 0.95,
) -> Effort:
    """Tokens and latencies of the stored answers, speed and cost of the runs that made them.

    Args:
        whole: What the answers took.
        runs: All of one release.
        prices: Of the model, by the hour or by the token.
        graded: Evaluated documents with `score`, for what a correct answer took.
        accuracy: Their mean score.
        confidence: Of the intervals.
    """
    seconds = math.fsum(run.seconds for run in runs)
    total, stored = sum(run.usage.total for run in runs), sum(run.stored for run in runs)
    cost = math.fsum(prices.cost_usd(run.seconds, run.usage) for run in runs) if prices.are_known and runs else None
    each = None if cost is None or not stored else cost / stored
    latencies = Ordered(whole.latencies)
    return Effort(
        usage=whole.usage,
        cost_usd=cost,
        tokens_per_second=total / seconds if seconds > 0 else None,
        latency_p50_seconds=latencies.quantile(0.5) if latencies.count else None,
        latency_p95_seconds=latencies.quantile(SLOWEST) if latencies.count else None,
        cost_usd_per_document=None if each is None else _point(each, confidence=confidence, count=stored),
        cost_usd_per_correct_answer=_over(each, accuracy),
        latency_p95=latencies.interval(SLOWEST, confidence=confidence),
        latency_seconds_per_correct_answer=_seconds_per_correct(graded, confidence=confidence),
    )


class Ordered:
    """Values in order, given as how often each occurs: as many as there are answers, in as little room as differ."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        ordered = sorted((float(value), count) for value, count in counts.items())
        self._values = [value for value, _ in ordered]
        self._ends = list(accumulate(count for _, count in ordered))
        self.count = self._ends[-1] if ordered else 0

    def at(self, index: int) -> float:
        """The value at a place of the order, from 0."""
        return self._values[bisect_right(self._ends, index)]

    def quantile(self, share: float) -> float:
        """Between the two values beside it, as numpy and pandas have it."""
        place = (self.count - 1) * share
        below = math.floor(place)
        lower, upper = self.at(below), self.at(min(below + 1, self.count - 1))
        return lower + (upper - lower) * (place - below)

    def interval(self, share: float, *, confidence: float) -> Interval | None:
        """The value below which `share` of all lie, bounded by two measured values; None while they are too few.

        The number of values below the true quantile is binomial, whatever their distribution. Of few values even the
        largest is no upper bound: for the 95th percentile at 0.95 it takes 72.

        Source: Hahn and Meeker 1991, section 5.2.
        """
        count, tail = self.count, (1.0 - confidence) / 2.0
        if not count or share**count > tail:
            return None
        low = max(0, binomial_quantile(tail, count, share) - 1)
        high = min(count - 1, binomial_quantile(1.0 - tail, count, share))
        value = self.quantile(share)
        lower, upper = min(self.at(low), value), max(self.at(high), value)
        return Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=count)


def binomial_quantile(probability: float, count: int, share: float) -> int:
    """The smallest number of successes that is reached with this probability; `scipy.stats.binom.ppf`.

    `scipy.stats` itself takes a second and a half to import, in every process that makes a report.
    """
    from scipy.special import bdtr, bdtrik

    found: int = math.ceil(bdtrik(probability, count, share))
    return found - 1 if found > 0 and bdtr(found - 1, count, share) >= probability else found


def _point(value: float, *, confidence: float, count: int) -> Interval:
    return Interval(value=value, lower=value, upper=value, confidence=confidence, count=count)


def _over(each: float | None, accuracy: Interval | None) -> Interval | None:
    """Cost of a document over the share of right answers; None where no right answer can be ruled out."""
    if each is None or accuracy is None or accuracy.lower <= 0.0:
        return None
    return Interval(
        value=each / accuracy.value,
        lower=each / accuracy.upper,
        upper=each / accuracy.lower,
        confidence=accuracy.confidence,
        count=accuracy.count,
    )


def _seconds_per_correct(graded: pd.DataFrame | None, *, confidence: float) -> Interval | None:
    if graded is None or "latency_seconds" not in graded.columns:
        return None
    import numpy as np

    # A row without a latency says nothing about speed.
    timed = graded.loc[graded["latency_seconds"].fillna(0.0) > 0.0]
    if timed.empty or float(timed["score"].sum()) <= 0.0:
        return None
    columns = timed[["latency_seconds", "score"]].to_numpy(dtype=np.float64)
    # Of the rate, which is zero where the time is infinite: a resample may hold no right answer at all.
    slowest, fastest = bootstrap_bounds(
        columns, clusters_of(timed), lambda sums: sums[:, 1] / sums[:, 0], confidence=confidence
    )
    if slowest <= 0.0:
        return None
    value = float(columns[:, 0].sum() / columns[:, 1].sum())
    lower, upper = min(1.0 / fastest, value), max(1.0 / slowest, value)
    return Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=len(timed))
