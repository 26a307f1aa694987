"""All the metrics of one variant's evaluated documents, as its task has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_platform.application import Application
from llm_platform.evaluation.metrics import (
    Confusion,
    FieldAccuracy,
    LabelMetrics,
    Majority,
    Reliability,
    Slice,
    confusion,
    field_accuracy,
    label_metrics,
    macro_f1,
    majority,
    reliability,
    slices,
)
from llm_platform.evaluation.statistics import mean_score
from llm_platform.records import Interval, Record

if TYPE_CHECKING:
    import pandas as pd


class Measures(Record):
    """Metrics over the evaluated documents.

    Attributes:
        accuracy: Share of right answers, or mean score where credit is partial; None when nothing was evaluated.
        macro_f1: For `classify` only, as `labels`, `confusion` and `majority` are.
        fields: For `extract` only.
    """

    accuracy: Interval | None = None
    macro_f1: Interval | None = None
    labels: tuple[LabelMetrics, ...] = ()
    confusion: Confusion | None = None
    majority: Majority | None = None
    fields: tuple[FieldAccuracy, ...] = ()
    slices: tuple[Slice, ...] = ()
    reliability: Reliability | None = None


def measure(rows: pd.DataFrame, application: Application) -> Measures:
    """The metrics of graded rows, as `scored_rows` gives them without the ungraded ones.

    Raises:
        ContractBroken: an attribute to slice by is not a column.
    """
    if rows.empty:
        return Measures()
    confidence = application.evaluation.gates.confidence
    common = Measures(
        accuracy=mean_score(rows["score"].tolist(), rows["fingerprint"].tolist(), confidence=confidence),
        slices=slices(rows, application.evaluation.slices, confidence=confidence),
        reliability=reliability(rows, confidence=confidence),
    )
    if application.task == "extract":
        fields = field_accuracy(rows, application.fields, confidence=confidence)
        return common.model_copy(update={"fields": fields})
    if application.task != "classify":
        return common
    table = confusion(rows, application.labels)
    return common.model_copy(
        update={
            "macro_f1": macro_f1(rows, application.labels, confidence=confidence),
            "labels": label_metrics(table),
            "confusion": table,
            "majority": majority(rows["reference"].tolist()),
        }
    )
