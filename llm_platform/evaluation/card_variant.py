"""What the section of one variant on a report card shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from llm_platform.evaluation.effort import Effort
from llm_platform.evaluation.figures import Axis, interval_row, reliability_diagram, scale
from llm_platform.evaluation.metrics import Confusion, LabelMetrics, Reliability, Slice
from llm_platform.evaluation.report import ReleaseFacts, Report
from llm_platform.evaluation.wording import amount, counted, interval_text
from llm_platform.records import GateResult, Interval
from llm_platform.records.figures import figure, minimum_figure

LARGEST_MATRIX = 12
MISTAKES_SHOWN = 15
LABELS_SHOWN = 24
SLICES_SHOWN = 12
LONGEST_VALUE = 40
NO_ANSWER = "no valid answer"


def variant_view(report: Report) -> dict[str, Any]:
    """The values that the template needs for one variant."""
    release, table = report.release, report.reliability
    is_small = report.confusion is not None and len(report.confusion.labels) <= LARGEST_MATRIX
    shown = sorted(report.labels, key=lambda item: item.f1 or 0.0)[:LABELS_SHOWN] if not is_small else report.labels
    all_labels = len(shown) == len(report.labels)
    return {
        "name": report.variant,
        "made_by": _made_by(release),
        "tiles": _tiles(report),
        "ungraded": "; ".join(f"{counted(n, 'document')}: {reason}" for reason, n in report.counts.ungraded.items()),
        "confusion": _matrix(report.confusion) if report.confusion is not None and is_small else None,
        "mistakes": _mistakes(report.confusion) if report.confusion is not None and not is_small else [],
        "labels": [_label(item) for item in shown],
        "labels_title": "By label" if all_labels else f"The {len(shown)} weakest of {len(report.labels)} labels",
        "reliability": reliability_diagram(table) if table is not None else None,
        "reliability_note": ""
        if table is None
        else f"Expected calibration error {figure(table.expected_error)} over {counted(table.count, 'answer')}"
        f"{_brier(table)}. Points below the diagonal claim more than is true; larger points hold more documents.",
        "plots": [*_metrics(report), *_fields(report), *_slices(report)],
        "gates": [_gate(gate) for gate in report.gates],
    }


def _made_by(release: ReleaseFacts) -> str:
    if release.recorded is not None:
        said = "nothing was asked, and it cannot be published"
        return f"Recorded answers of another system, from {release.recorded}: {said}."
    calibrated = ", calibrated" if release.calibrated else ""
    return f"Prompt {release.prompt_name} on {release.model_entry}, decided by {release.decision}{calibrated}."


def matrix_cell(count: int, total: int, *, right: bool = False) -> dict[str, Any]:
    """A count with its share of `total`, which also sets the depth of its colour."""
    share = count / total if total else 0.0
    return {"count": f"{count:,}", "share": figure(share), "wash": f"{0.04 + 0.42 * share:.2f}", "right": right}


def _tiles(report: Report) -> list[dict[str, str]]:
    counts = report.counts
    tiles = [
        ("Macro-F1", *_measured(report.macro_f1)),
        ("Kappa", *_measured(report.kappa)),
        ("Valid answers", *_measured(report.valid_rate)),
        ("Evaluated", f"{counts.evaluated:,}", _of(counts.evaluated, counts.labelled, "labelled")),
        ("Answered", f"{counts.answered:,}", _of(counts.answered, counts.documents, "documents")),
        *_effort(report.effort),
        *(
            (metric.name, amount(metric.value), "the application's own")
            for metric in report.metrics
            if not metric.interval
        ),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in tiles if value]


def _effort(effort: Effort) -> list[tuple[str, str, str]]:
    usage, speed = effort.usage, effort.tokens_per_second
    p50, p95 = effort.latency_p50_seconds, effort.latency_p95_seconds
    tokens = f"{usage.prompt_tokens:,} prompt, {usage.completion_tokens:,} answer"
    return [
        ("Tokens", f"{usage.total:,}" if usage.total else "", tokens),
        ("Tokens per second", f"{speed:,.0f}" if speed is not None else "", "prompt and answer"),
        ("Median latency", _seconds(p50), f"95 of 100 within {_seconds(p95)}"),
        (
            "Time per correct answer",
            _seconds(_value(effort.latency_seconds_per_correct_answer)),
            "of waiting for answers",
        ),
        ("Cost of a correct answer", _usd(effort.cost_usd_per_correct_answer), _usd_bounds(effort)),
        ("GPU cost", f"{effort.cost_usd:,.2f} USD" if effort.cost_usd is not None else "", "price of the GPU time"),
    ]


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _usd(interval: Interval | None) -> str:
    return "" if interval is None else f"{amount(interval.value)} USD"


def _usd_bounds(effort: Effort) -> str:
    found = effort.cost_usd_per_correct_answer
    return "" if found is None else f"[{amount(found.lower)}, {amount(found.upper)}]"


def _brier(table: Reliability) -> str:
    if table.brier is None or table.brier_of_constant is None:
        return ""
    return f"; Brier score {table.brier:.3f}, and {table.brier_of_constant:.3f} for always claiming the mean"


def _gate(gate: GateResult) -> tuple[str, ...]:
    if not gate.measured:
        measured, limit = "not measured", f"at least {minimum_figure(gate.limit)}"
    elif gate.maximum is not None and gate.upper is None:
        measured, limit = "not measured", f"at most {amount(gate.maximum)}"
    elif gate.maximum is not None:
        measured, limit = f"{amount(gate.value)}, up to {amount(gate.bound)}", f"at most {amount(gate.maximum)}"
    else:
        value, bound = (figure(number, against=gate.limit) for number in (gate.value, gate.bound))
        measured, limit = f"{value}, at least {bound}", f"at least {minimum_figure(gate.limit)}"
    return (gate.name.replace("_", " "), measured, limit, gate.verdict)


def _metrics(report: Report) -> list[dict[str, Any]]:
    """Further metrics that lie in [0, 1] on one axis; one that does not is a tile."""
    measured = [(metric, metric.interval) for metric in report.metrics if metric.interval is not None]
    shares = [(metric, interval) for metric, interval in measured if interval.lower >= 0 and interval.upper <= 1]
    if not shares:
        return []
    axis = Axis.around(_bounds([interval for _, interval in shares]))
    rows = [
        interval_row(axis, interval, label=metric.name, note=counted(interval.count, "document"))
        for metric, interval in shares
    ]
    return [{"title": "Further metrics", "rows": [*rows, scale(axis)], "note": ""}]


def _measured(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "", ""
    value, _, bounds = interval_text(interval).partition(" ")
    return value, bounds


def _of(part: int, whole: int, noun: str) -> str:
    return f"all {noun}" if part == whole else f"of {whole:,} {noun}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def _matrix(table: Confusion) -> dict[str, Any]:
    is_silent = any(row[-1] for row in table.counts)
    columns = [*table.labels, NO_ANSWER] if is_silent else list(table.labels)
    rows = [
        {
            "name": label,
            "cells": [matrix_cell(n, sum(row), right=place == index) for place, n in enumerate(row[: len(columns)])],
        }
        for index, (label, row) in enumerate(zip(table.labels, table.counts, strict=True))
    ]
    return {"columns": columns, "rows": rows}


def _mistakes(table: Confusion) -> list[tuple[str, str, str]]:
    names = [*table.labels, NO_ANSWER]
    found = [
        (count, label, names[place])
        for index, (label, row) in enumerate(zip(table.labels, table.counts, strict=True))
        for place, count in enumerate(row)
        if place != index and count
    ]
    found.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [(label, given, f"{count:,}") for count, label, given in found[:MISTAKES_SHOWN]]


def _label(item: LabelMetrics) -> tuple[str, ...]:
    numbers = ("–" if number is None else figure(number) for number in (item.precision, item.recall, item.f1))
    return (item.label, *numbers, f"{item.count:,}")


def _fields(report: Report) -> list[dict[str, Any]]:
    if not report.fields:
        return []
    axis = Axis.around(_bounds([item.accuracy for item in report.fields]))
    rows = [
        interval_row(axis, item.accuracy, label=item.field, note=counted(item.accuracy.count, "document"))
        for item in report.fields
    ]
    return [{"title": "By field", "rows": [*rows, scale(axis)], "note": ""}]


def _slices(report: Report) -> list[dict[str, Any]]:
    groups = [(name, list(parts)[:SLICES_SHOWN]) for name, parts in groupby(report.slices, lambda item: item.attribute)]
    if not groups:
        return []
    axis = Axis.around(_bounds([part.accuracy for _, parts in groups for part in parts]))
    return [
        {"title": f"By {attribute}", "rows": [*(_slice(axis, part) for part in parts), scale(axis)], "note": ""}
        for attribute, parts in groups
    ]


def _slice(axis: Axis, part: Slice) -> Any:
    value = part.value if len(part.value) <= LONGEST_VALUE else f"{part.value[: LONGEST_VALUE - 1]}…"
    return interval_row(axis, part.accuracy, label=value, note=counted(part.accuracy.count, "document"))


def _bounds(intervals: Sequence[Interval]) -> list[float]:
    return [bound for interval in intervals for bound in (interval.lower, interval.upper)]
