"""What the stored answers of one release took: tokens, time and money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.statistics import bootstrap_bounds
from llm_platform.records import InferenceRun, Interval, Prices, Record, TokenUsage

if TYPE_CHECKING:
    import pandas as pd

TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
NO_PRICES = Prices()
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
    answers: pd.DataFrame,
    runs: Sequence[InferenceRun],
    *,
    prices: Prices = NO_PRICES,
    graded: pd.DataFrame | None = None,
    accuracy: Interval | None = None,
    confidence: float = 0.95,
) -> Effort:
    """Tokens and latencies of the stored answers, speed and cost of the runs that made them.

    Args:
        answers: `fingerprint` and `status`; optional are the token columns, `latency_seconds` and `reused`.
        runs: All of one release.
        prices: Of the model, by the hour or by the token.
        graded: Evaluated documents with `score`, for what a correct answer took.
        accuracy: Their mean score.
        confidence: Of the intervals.
    """
    paid = answers.loc[answers["status"].notna()].drop_duplicates("fingerprint")
    if "reused" in paid.columns:
        paid = paid.loc[[value is not True for value in paid["reused"].astype(object).tolist()]]
    tokens = {name: int(paid[name].fillna(0).sum()) for name in TOKEN_COLUMNS if name in paid.columns}
    seconds = math.fsum(run.seconds for run in runs)
    total, stored = sum(run.usage.total for run in runs), sum(run.stored for run in runs)
    cost = math.fsum(prices.cost_usd(run.seconds, run.usage) for run in runs) if prices.are_known and runs else None
    each = None if cost is None or not stored else cost / stored
    return Effort(
        usage=TokenUsage(**tokens),
        cost_usd=cost,
        tokens_per_second=total / seconds if seconds > 0 else None,
        latency_p50_seconds=_latency(paid, 0.5),
        latency_p95_seconds=_latency(paid, SLOWEST),
        cost_usd_per_document=None if each is None else _point(each, confidence=confidence, count=stored),
        cost_usd_per_correct_answer=_over(each, accuracy),
        latency_p95=quantile_interval(_seconds(paid), SLOWEST, confidence=confidence),
        latency_seconds_per_correct_answer=_seconds_per_correct(graded, confidence=confidence),
    )


def quantile_interval(values: Sequence[float], share: float, *, confidence: float) -> Interval | None:
    """The value below which `share` of all lie, bounded by two of the measured values; None while they are too few.

    The number of values below the true quantile is binomial, whatever their distribution. Of few values even the
    largest is no upper bound: for the 95th percentile at 0.95 it takes 72.

    Source: Hahn and Meeker 1991, section 5.2.
    """
    if not values or share ** len(values) > (1.0 - confidence) / 2.0:
        return None
    import numpy as np
    from scipy.stats import binom

    ordered, tail = np.sort(np.asarray(values, dtype=np.float64)), (1.0 - confidence) / 2.0
    count = len(ordered)
    low = max(0, int(binom.ppf(tail, count, share)) - 1)
    high = min(count - 1, int(binom.ppf(1.0 - tail, count, share)))
    value = float(np.quantile(ordered, share))
    lower, upper = min(float(ordered[low]), value), max(float(ordered[high]), value)
    return Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=count)


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


def _seconds(paid: pd.DataFrame) -> list[float]:
    if "latency_seconds" not in paid.columns:
        return []
    return [float(value) for value in paid["latency_seconds"].dropna().tolist()]


def _latency(paid: pd.DataFrame, share: float) -> float | None:
    if "latency_seconds" not in paid.columns or paid["latency_seconds"].notna().sum() == 0:
        return None
    return float(paid["latency_seconds"].astype("float64").quantile(share))
