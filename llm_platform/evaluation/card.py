"""The report card: one self-contained HTML page over the reports of an application's variants.

It holds numbers, ids, names of labels and of attribute values, and never the text of a document or a free answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.card_page import PAGE
from llm_platform.evaluation.card_style import STYLE
from llm_platform.evaluation.card_variant import matrix_cell, variant_view
from llm_platform.evaluation.comparison import Comparison
from llm_platform.evaluation.figures import Axis, Mark, Row, interval_row, minimum_head, scale, value_row
from llm_platform.evaluation.gates import ACCURACY, VALID_RATE
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import counted, interval_text, minimum_figure

BADGES = {"approved": "Approved", "refused": "Refused", "undecided": "Not decided"}
ICONS = {"approved": "M3 8.5 6.5 12 13 4.5", "refused": "M4 4l8 8M12 4l-8 8", "undecided": "M3 8h10"}
SPOKEN = {ACCURACY: "Accuracy", VALID_RATE: "Valid rate"}
DISAGREEMENTS_SHOWN = 12


def render_card(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    *,
    title: str,
    description: str = "",
    provenance: Mapping[str, str] | None = None,
) -> str:
    """A page that needs no script, network or other file, light or dark as the reader's system is, and printable.

    Args:
        reports: One per variant, in the order to show; of one application.
        comparisons: Paired comparisons between those variants.
        title: Of the application.
        description: One sentence under the title.
        provenance: Further facts to list, such as snapshot ids and the git commit.

    Raises:
        ContractBroken: there is no report, or they are of several applications.
    """
    from jinja2 import Environment, StrictUndefined

    applications = sorted({report.application for report in reports})
    if len(applications) != 1:
        raise ContractBroken(f"A card needs reports of one application; got {len(reports)} reports of {applications}.")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
    return page.render(
        style=STYLE,
        badges=BADGES,
        icons=ICONS,
        title=title,
        application=applications[0],
        date=_date(reports),
        lede=f"{description.strip()} {_outcome(reports)}".strip(),
        verdicts=[_verdict(report) for report in reports],
        measure=_measure(reports[0]),
        key_note=_key_note(reports),
        key_rows=_key_rows(reports),
        steps=_steps(reports),
        comparisons=[_comparison(comparison) for comparison in comparisons],
        variants=[variant_view(report) for report in reports],
        sources=_sources(reports, provenance or {}),
        measured_on=_measured_on(reports),
    )


def _date(reports: Sequence[Report]) -> str:
    newest = max(report.created_at for report in reports)
    return f"{newest.day} {newest:%B %Y}, {newest:%H:%M} {newest.tzname() or ''}".strip()


def _outcome(reports: Sequence[Report]) -> str:
    approved = sum(report.passed for report in reports)
    if len(reports) == 1:
        return f"This variant may {'' if approved else 'not '}be published."
    if approved in (0, len(reports)):
        return f"{'Every' if approved else 'No'} variant may be published."
    return f"{approved} of {len(reports)} variants may be published."


def _measure(report: Report) -> str:
    return "Mean score" if report.task == "extract" else "Accuracy"


def _minimum(report: Report) -> float | None:
    return next((gate.minimum for gate in report.gates if gate.name == ACCURACY), None)


def _verdict(report: Report) -> dict[str, str]:
    view = {"variant": report.variant, "state": report.standing, "why": _why(report)}
    if report.accuracy is None:
        return {**view, "value": "–", "range": "nothing was evaluated"}
    minimum = _minimum(report)
    value, _, bounds = interval_text(report.accuracy, against=minimum).partition(" ")
    against = f", minimum {minimum_figure(minimum)}" if minimum is not None else ""
    return {**view, "value": value, "range": f"{_measure(report).lower()}, {bounds}{against}"}


def _why(report: Report) -> str:
    """The first reason for the verdict, without repeating the numbers above it."""
    failed = [gate for gate in report.gates if not gate.passed]
    if not failed:
        return f"Clears {'every gate' if len(report.gates) > 1 else 'its gate'}, with the lower bound of each interval."
    gate = failed[0]
    more = f" {counted(len(failed) - 1, 'further gate')} failed." if len(failed) > 1 else ""
    if gate.name != ACCURACY or report.accuracy is None:
        return f"{_spoken(gate.name, gate.reason.partition(' Why ')[0])}{more}"
    if gate.value >= gate.minimum:
        return f"Cannot tell yet: the value reaches the minimum, its lower bound does not.{more}"
    subject = "The whole interval lies" if report.accuracy.upper < gate.minimum else "The value lies"
    return f"{subject} below the minimum.{more}"


def _spoken(name: str, reason: str) -> str:
    return SPOKEN[name] + reason.removeprefix(name) if name in SPOKEN and reason.startswith(name) else reason


def _key_note(reports: Sequence[Report]) -> str:
    confidence = next((report.accuracy.confidence for report in reports if report.accuracy is not None), 0.95)
    note = (
        f"Dots are measured, bars are {confidence:g} intervals; a variant clears its gate when its whole bar lies "
        "right of the minimum."
    )
    if len({report.evaluation_id for report in reports}) > 1:
        note += " These reports were measured on different documents, references or gates: do not compare them."
    return note


def _key_rows(reports: Sequence[Report]) -> list[Row]:
    """Every variant, the minimum, the baseline and the majority label on one axis."""
    minimums = {_minimum(report) for report in reports}
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
        mark: Mark = "approved" if report.passed else "refused"
        note = f"{BADGES[report.standing].lower()}, {counted(interval.count, 'document')}"
        rows.append(interval_row(axis, interval, label=report.variant, note=note, mark=mark, minimum=_minimum(report)))
    if baseline is not None and yardstick is not None:
        note = f"trained on {counted(baseline.trained, 'document')}"
        rows.append(interval_row(axis, yardstick, label=baseline.name, note=note, mark="reference", minimum=common))
    if majority is not None:
        note = f"the majority, {majority.count:,} of {majority.of:,}"
        rows.append(value_row(axis, majority.rate, label=f"Always {majority.answer}", note=note, minimum=common))
    return [*rows, scale(axis)]


def _steps(reports: Sequence[Report]) -> list[dict[str, str | None]]:
    return [
        {"variant": report.variant, "next": gate.next_step, "reason": _spoken(gate.name, gate.reason)}
        for report in reports
        for gate in report.gates
        if not gate.passed
    ]


def _comparison(comparison: Comparison) -> dict[str, Any]:
    a, b, count = comparison.a, comparison.b, comparison.difference.count
    rows = [
        {"name": f"{a} right", "cells": [matrix_cell(n, count) for n in (comparison.both_right, comparison.only_a)]},
        {"name": f"{a} wrong", "cells": [matrix_cell(n, count) for n in (comparison.only_b, comparison.both_wrong)]},
    ]
    return {
        "a": a,
        "b": b,
        "note": f"{comparison.summary} Difference {comparison.difference_text}, exact McNemar test.",
        "columns": [f"{b} right", f"{b} wrong"],
        "rows": rows,
        "ids": comparison.disagreements[:DISAGREEMENTS_SHOWN],
    }


def _sources(reports: Sequence[Report], further: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ids with which everything on the card can be found again."""
    sources = [{"title": report.variant, "facts": _facts(report)} for report in reports]
    return [*sources, {"title": "Common", "facts": list(further.items())}] if further else sources


def _facts(report: Report) -> list[tuple[str, str]]:
    release = report.release
    model = (release.model_entry, release.served_name, f"NIM dialect {release.dialect}", release.image, release.profile)
    facts = [
        ("release", report.release_id),
        ("report", report.report_id),
        ("evaluation", report.evaluation_id),
        ("references", report.references_version),
        ("scorer", report.scorer),
        ("prompt", f"{release.prompt_name}, version {release.prompt_version}"),
        ("model", ", ".join(part for part in model if part)),
        ("weights", f"sha256 {release.weights_sha256}" if release.weights_sha256 else ""),
        ("adapter", release.adapter or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _measured_on(reports: Sequence[Report]) -> str:
    left_out = max(report.counts.seen_in_training for report in reports)
    leaked = (
        f", leaving out {counted(left_out, 'document')} whose text is in the training split too" if left_out else ""
    )
    return f"Measured on the evaluation split only{leaked}."
