"""All the metrics of one variant's evaluated documents, as its task has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.evaluation.clusters import Method, clusters_of
from llm_platform.evaluation.metrics import (
    Confusion,
    FieldAccuracy,
    LabelMetrics,
    Majority,
    Reliability,
    Slice,
    confusion,
    field_accuracy,
    kappa,
    label_metrics,
    macro_f1,
    majority,
    reliability,
    slices,
)
from llm_platform.records import Interval, Record

if TYPE_CHECKING:
    import pandas as pd


class Metric(Record):
    """One more number over the evaluated documents: of a further scorer, or of the application's own function.

    Attributes:
        interval: None where the function gave a bare number.
        ungraded: Documents without a score by this scorer.
    """

    name: str
    value: float
    interval: Interval | None = None
    ungraded: int = 0


class Measures(Record):
    """Metrics over the evaluated documents.

    Attributes:
        accuracy: Share of right answers, or mean score where credit is partial; None when nothing was evaluated.
        metrics: By further scorers and the application's own.
        macro_f1: For `classify` only, as `kappa`, `labels`, `confusion` and `majority` are.
        fields: For `extract` only.
    """

    accuracy: Interval | None = None
    macro_f1: Interval | None = None
    kappa: Interval | None = None
    labels: tuple[LabelMetrics, ...] = ()
    confusion: Confusion | None = None
    majority: Majority | None = None
    fields: tuple[FieldAccuracy, ...] = ()
    slices: tuple[Slice, ...] = ()
    reliability: Reliability | None = None
    metrics: tuple[Metric, ...] = ()


def method_of(application: Application) -> Method:
    """How the intervals of an application are made."""
    evaluation = application.evaluation
    return Method(
        confidence=evaluation.gates.confidence, looks=evaluation.gates.looks, shared=evaluation.cluster is None
    )


def measure(rows: pd.DataFrame, application: Application) -> Measures:
    """The metrics of graded rows, as `scored_rows` gives them without the ungraded ones.

    Raises:
        ContractBroken: an attribute to slice by is not a column.
    """
    if rows.empty:
        return Measures()
    method = method_of(application)
    common = Measures(
        accuracy=method.mean(rows["score"].tolist(), clusters_of(rows)),
        slices=slices(rows, application.evaluation.slices, method=method),
        reliability=reliability(rows, method=method),
    )
    if application.task == "extract":
        fields = field_accuracy(rows, application.fields, method=method)
        return common.model_copy(update={"fields": fields})
    if application.task != "classify":
        return common
    table = confusion(rows, application.labels)
    return common.model_copy(
        update={
            "macro_f1": macro_f1(rows, application.labels, method=method),
            "kappa": kappa(rows, application.labels, method=method),
            "labels": label_metrics(table),
            "confusion": table,
            "majority": majority(rows["reference"].tolist()),
        }
    )
