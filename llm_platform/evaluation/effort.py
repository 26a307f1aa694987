"""What the stored answers of one release took: tokens, time and money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_platform.records import InferenceRun, Record, TokenUsage

if TYPE_CHECKING:
    import pandas as pd

TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens", "cached_tokens")
SECONDS_PER_HOUR = 3600.0


class Effort(Record):
    """What the stored answers took; a document whose answer was shared or reused took nothing.

    Attributes:
        cost_usd: Price of the GPU time of the release's runs; None without a price or without a run.
        tokens_per_second: Prompt and completion tokens a second of the release's runs; None without a run.
    """

    usage: TokenUsage
    cost_usd: float | None
    tokens_per_second: float | None
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None


def measured_effort(
    answers: pd.DataFrame, runs: Sequence[InferenceRun], *, gpu_hour_usd: float | None = None, gpus: int = 1
) -> Effort:
    """Tokens and latencies of the stored answers, speed and cost of the runs that made them.

    Args:
        answers: `fingerprint` and `status`; optional are the token columns, `latency_seconds` and `reused`.
        runs: All of one release.
        gpu_hour_usd: Price of one GPU for an hour.
        gpus: GPUs in use during a run.
    """
    paid = answers.loc[answers["status"].notna()].drop_duplicates("fingerprint")
    if "reused" in paid.columns:
        paid = paid.loc[[value is not True for value in paid["reused"].astype(object).tolist()]]
    tokens = {name: int(paid[name].fillna(0).sum()) for name in TOKEN_COLUMNS if name in paid.columns}
    seconds = math.fsum(run.seconds for run in runs)
    total = sum(run.usage.total for run in runs)
    return Effort(
        usage=TokenUsage(**tokens),
        cost_usd=None if gpu_hour_usd is None or not runs else seconds * gpus * gpu_hour_usd / SECONDS_PER_HOUR,
        tokens_per_second=total / seconds if seconds > 0 else None,
        latency_p50_seconds=_latency(paid, 0.5),
        latency_p95_seconds=_latency(paid, 0.95),
    )


def _latency(paid: pd.DataFrame, share: float) -> float | None:
    if "latency_seconds" not in paid.columns or paid["latency_seconds"].notna().sum() == 0:
        return None
    return float(paid["latency_seconds"].astype("float64").quantile(share))
