"""The first picture of a card: every variant, the minimum, and what costs nothing, on one axis."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llm_platform.application.evaluation import Looks
from llm_platform.evaluation.figures import Axis, Mark, PlotRow, interval_row, minimum_head, scale, value_row
from llm_platform.evaluation.gates import ACCURACY
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import counted

BADGES = {
    "approved": "Approved",
    "refused": "Refused",
    "undecided": "Not decided",
    "pending": "Not there yet",
}


def accuracy_minimum(report: Report) -> float | None:
    """What the score has to reach, where a gate says so."""
    return next((gate.minimum for gate in report.gates if gate.name == ACCURACY), None)


def key_note(reports: Sequence[Report], looks: Looks) -> str:
    """How to read the picture."""
    confidence = next((report.accuracy.confidence for report in reports if report.accuracy is not None), 0.95)
    kind = "confidence sequences, which hold at every look" if looks == "any" else "intervals"
    note = (
        f"Dots are measured, bars are {confidence:g} {kind}; a variant clears its gate when its whole bar lies "
        "right of the minimum."
    )
    if len({report.evaluation_id for report in reports}) > 1:
        note += " These reports were measured on different documents, references or gates: do not compare them."
    return note


def standing_of(report: Report, withheld: Collection[str]) -> str:
    """Key of `BADGES`: what its gates say, unless it has more to show than its gates."""
    return "undecided" if report.passed and report.variant in withheld else report.standing


def key_rows(reports: Sequence[Report], withheld: Collection[str] = ()) -> list[PlotRow]:
    """Every variant, the minimum, the baseline and the majority label on one axis."""
    minimums = {accuracy_minimum(report) for report in reports}
    common = minimums.pop() if len(minimums) == 1 else None
    measured = [(report, report.accuracy) for report in reports if report.accuracy is not None]
    majority = next((report.majority for report in reports if report.majority is not None), None)
    baseline = next((report.baseline for report in reports if report.baseline is not None), None)
    yardstick = baseline.accuracy if baseline is not None else None
    intervals = [interval for _, interval in measured] + ([yardstick] if yardstick is not None else [])
    points = [majority.rate if majority is not None else None, *minimums, common]
    values = [bound for interval in intervals for bound in (interval.lower, interval.upper)]
    values += [point for point in points if point is not None]
    if not values:
        return []
    axis = Axis.around(values)
    rows = [minimum_head(axis, common)] if common is not None else []
    for report, interval in measured:
        standing = standing_of(report, withheld)
        mark: Mark = "approved" if standing == "approved" else "refused"
        note = f"{BADGES[standing].lower()}, {counted(interval.count, 'document')}"
        rows.append(
            interval_row(axis, interval, label=report.variant, note=note, mark=mark, minimum=accuracy_minimum(report))
        )
    if baseline is not None and yardstick is not None:
        note = f"trained on {counted(baseline.trained, 'document')}"
        rows.append(interval_row(axis, yardstick, label=baseline.name, note=note, mark="reference", minimum=common))
    if majority is not None:
        note = f"the majority, {majority.count:,} of {majority.of:,}"
        rows.append(value_row(axis, majority.rate, label=f"Always {majority.answer}", note=note, minimum=common))
    return [*rows, scale(axis)]
