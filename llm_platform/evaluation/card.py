"""The report card: one self-contained HTML page over the reports of an application's variants.

It holds numbers, ids, names of labels and of attribute values, and never the text of a document or a free answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from llm_platform.application.evaluation import Looks
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.card_key import BADGES, accuracy_minimum, key_note, key_rows, standing_of
from llm_platform.evaluation.card_sources import changes_view, measured_on, sources
from llm_platform.evaluation.card_variant import matrix_cell, variant_view
from llm_platform.evaluation.changes import Changes
from llm_platform.evaluation.comparison import Comparison
from llm_platform.evaluation.gates import ACCURACY
from llm_platform.evaluation.pages import render
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.records.figures import minimum_figure

ICONS = {
    "approved": "M3 8.5 6.5 12 13 4.5",
    "refused": "M4 4l8 8M12 4l-8 8",
    "undecided": "M3 8h10",
    "pending": "M8 4.7V8l2.2 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0",
}
DISAGREEMENTS_SHOWN = 12
INTERVALS = (
    "Intervals are two-sided: Wilson for shares, percentile bootstrap over texts for partial scores and macro-F1, "
    "order statistics for latencies. Where evaluation.gates.looks is 'any', scores have confidence sequences, which "
    "hold at every look."
)


def render_card(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    *,
    title: str,
    looks: Looks,
    application: str | None = None,
    provenance: Mapping[str, str] | None = None,
    panels: Sequence[Panel] = (),
    changes: Sequence[Changes] = (),
    pending: Mapping[str, str] | None = None,
    withheld: Mapping[str, str] | None = None,
    review_url: str | None = None,
    serving: str = "",
) -> str:
    """A page that needs no script, network or other file, light or dark as the reader's system is, and printable.

    Args:
        reports: One per variant, in the order to show; of one application.
        comparisons: Paired comparisons between those variants.
        title: Of the application.
        looks: How often its decision may be looked at, as its gates say.
        application: Its name; taken from the reports where not given.
        provenance: Further facts to list, such as snapshot ids and the git commit.
        panels: Further parts; those with a variant stand in its section.
        changes: What is different from each variant's last report.
        pending: Variants without a release, and what they wait for.
        withheld: Variants that clear their gates and may not be published yet, and what else they have to show.
        review_url: Address of the page that serves this card; without it, the card has no links.
        serving: Who serves, since when and by whose decision, when the card was written.

    Raises:
        ContractBroken: there is neither a report nor a pending variant, or the reports are of several applications.
    """
    waiting, held = pending or {}, withheld or {}
    name = _application(reports, application, waiting)
    return render(
        "card.html",
        styles=("card.css", "charts.css"),
        badges=BADGES,
        icons=ICONS,
        title=title,
        application=name,
        date=_date(reports),
        lede=_outcome(reports, held),
        verdicts=[*(_verdict(report, held) for report in reports), *(_waiting(*item) for item in waiting.items())],
        measure=_measure(reports[0]) if reports else "",
        key_note=key_note(reports, looks),
        key_rows=key_rows(reports, held),
        steps=_steps(reports),
        changes=[changes_view(found) for found in changes],
        comparisons=[_comparison(comparison, base=_base(review_url, name)) for comparison in comparisons],
        variants=[variant_view(report) for report in reports],
        panels=panels,
        variant_names=[report.variant for report in reports],
        intervals=INTERVALS,
        sources=sources(reports, provenance or {}),
        measured_on=measured_on(reports),
        serving=serving,
    )


def _application(reports: Sequence[Report], name: str | None, pending: Mapping[str, str]) -> str:
    names = {report.application for report in reports} | ({name} if name is not None else set())
    if len(names) == 1 and (reports or pending):
        return names.pop()
    raise ContractBroken(f"A card needs reports of one application; got {len(reports)} reports of {sorted(names)}.")


def _waiting(variant: str, reason: str) -> dict[str, str]:
    """A variant that has no release yet: a plain state, not a verdict."""
    why = f"{reason[:1].upper()}{reason[1:].rstrip('.')}."
    return {"variant": variant, "state": "pending", "value": "–", "range": "no release to judge", "why": why}


def _base(review_url: str | None, application: str) -> str | None:
    """What addresses of an application's pages begin with. None where nobody has said: a card is opened as a file, too,
    and has no link then that leads nowhere. The page that serves it knows its own address, and links its documents."""
    return None if review_url is None else f"{review_url.rstrip('/')}/{application}"


def _date(reports: Sequence[Report]) -> str:
    if not reports:
        return "nothing measured yet"
    newest = max(report.created_at for report in reports)
    return f"{newest.day} {newest:%B %Y}, {newest:%H:%M} {newest.tzname() or ''}".strip()


def _outcome(reports: Sequence[Report], withheld: Mapping[str, str]) -> str:
    if not reports:
        return "No variant can be judged yet."
    approved = sum(report.passed and report.variant not in withheld for report in reports)
    if len(reports) == 1:
        return f"This variant may {'' if approved else 'not '}be published."
    if approved in (0, len(reports)):
        return f"{'Every' if approved else 'No'} variant may be published."
    return f"{approved} of {len(reports)} variants may be published."


def _measure(report: Report) -> str:
    return "Mean score" if report.task == "extract" else "Accuracy"


def _verdict(report: Report, withheld: Mapping[str, str]) -> dict[str, str]:
    why = withheld.get(report.variant) if report.passed else None
    view = {"variant": report.variant, "state": standing_of(report, withheld), "why": why or _why(report)}
    if report.accuracy is None:
        return {**view, "value": "–", "range": "nothing was evaluated"}
    minimum = accuracy_minimum(report)
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
    if gate.is_reached_by_value:
        return f"Cannot tell yet: the value reaches the minimum, its lower bound does not.{more}"
    subject = "The whole interval lies" if report.accuracy.upper < gate.limit else "The value lies"
    return f"{subject} below the minimum.{more}"


def _spoken(name: str, reason: str) -> str:
    """A gate's reason as a sentence: its name in words, and a capital at the start."""
    told = name.replace("_", " ") + reason.removeprefix(name) if reason.startswith(name) else reason
    return told[:1].upper() + told[1:]


def _steps(reports: Sequence[Report]) -> list[dict[str, str | None]]:
    return [
        {"variant": report.variant, "next": gate.next_step, "reason": _spoken(gate.name, gate.reason)}
        for report in reports
        for gate in report.gates
        if not gate.passed
    ]


def _comparison(comparison: Comparison, *, base: str | None) -> dict[str, Any]:
    a, b, count = comparison.a, comparison.b, comparison.texts
    rows = [
        {"name": f"{a} right", "cells": [matrix_cell(n, count) for n in (comparison.both_right, comparison.only_a)]},
        {"name": f"{a} wrong", "cells": [matrix_cell(n, count) for n in (comparison.only_b, comparison.both_wrong)]},
    ]
    return {
        "a": a,
        "b": b,
        "note": f"{comparison.summary} Difference {b} - {a}: {comparison.difference_text}, {comparison.test_text}.",
        "review_url": base and f"{base}/queue/disagreements",
        "answers_url": base and f"{base}/answers?only=differing",
        "columns": [f"{b} right", f"{b} wrong"],
        "rows": rows,
        "ids": [
            (one, base and f"{base}/answers?{urlencode({'id': one, 'open': one})}")
            for one in comparison.disagreements[:DISAGREEMENTS_SHOWN]
        ],
    }
