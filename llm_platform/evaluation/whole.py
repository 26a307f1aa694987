"""All documents of an application with the answers of one release, in sums: what a report says of rows without a label.

A store counts them without giving the rows, which may be tens of millions; `whole_of` counts those of a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.evaluation.clusters import RightSums, clusters_of
from llm_platform.evaluation.selection import answered_outside_training, sendable
from llm_platform.records import CompletionStatus, TokenUsage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Whole:
    """All documents.

    Attributes:
        valid: Documents with a valid answer.
        outside: Validity of the answered documents whose text is not in the training split.
        usage: Tokens of the answers to their texts.
        latencies: Seconds, to three digits, → how many of these answers took so long.
    """

    documents: int
    sendable: int
    answered: int
    valid: int
    outside: RightSums
    usage: TokenUsage
    latencies: Mapping[str, int]


def whole_of(answers: pd.DataFrame, references: pd.DataFrame) -> Whole:
    """Of a table that has every document; see `build_report`."""
    answered = answers.loc[answers["status"].notna()]
    outside = answered_outside_training(answers, references)
    paid = answered.drop_duplicates("fingerprint")
    if "reused" in paid.columns:
        paid = paid.loc[[value is not True for value in paid["reused"].astype(object).tolist()]]
    tokens = {name: int(paid[name].fillna(0).sum()) for name in TokenUsage.model_fields if name in paid.columns}
    seconds = paid["latency_seconds"].dropna().tolist() if "latency_seconds" in paid.columns else []
    valid = str(CompletionStatus.VALID)
    return Whole(
        documents=len(answers),
        sendable=int(sendable(answers).sum()),
        answered=len(answered),
        valid=int((answers["status"] == valid).sum()),
        outside=RightSums.of([status == valid for status in outside["status"].tolist()], clusters_of(outside)),
        usage=TokenUsage(**tokens),
        latencies=Counter(f"{value:.3g}" for value in seconds),
    )
