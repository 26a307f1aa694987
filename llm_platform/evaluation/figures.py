"""Pictures of intervals and calibration, as inline SVG.

Drawn here rather than by a plotting library, because positions in percent and colours from the page's style make one
picture fit a phone, a screen, dark mode and paper; matplotlib's pictures scale their letters with their width and know
one background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from llm_platform.evaluation.metrics import Reliability
from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.records import Interval
from llm_platform.records.figures import figure, minimum_figure

Mark = Literal["approved", "refused", "reference", "plain"]
SIDE = 300.0
PADDING = 0.02
NARROWEST = 5
EDGE = 0.15


@dataclass(frozen=True)
class Axis:
    """A stretch of [0, 1], in tenths, drawn over the width of a plot."""

    first: int
    last: int

    @classmethod
    def around(cls, values: Sequence[float]) -> Axis:
        """From the tenth below the smallest value to the tenth above the largest, half of [0, 1] at least."""
        first = max(0, math.floor((min(values) - PADDING) * 10))
        last = min(10, math.ceil((max(values) + PADDING) * 10))
        last = max(last, min(10, first + NARROWEST))
        return cls(first=min(first, last - NARROWEST), last=last)

    def share(self, value: float) -> float:
        """The place of a value as a share of the width."""
        return min(1.0, max(0.0, (10 * value - self.first) / (self.last - self.first)))

    def at(self, value: float) -> str:
        """The place of a value in percent of the width."""
        return f"{100 * self.share(value):.2f}%"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Every tenth."""
        return tuple(tenth / 10 for tenth in range(self.first, self.last + 1))


@dataclass(frozen=True)
class PlotRow:
    """One line of a plot: a name, a picture and the numbers in it."""

    track: Markup
    label: str = ""
    note: str = ""
    value: str = ""
    bounds: str = ""
    classes: str = ""


def scale(axis: Axis) -> PlotRow:
    """The numbers under a plot."""
    text = Markup('<text x="{}" y="16" text-anchor="middle">{}</text>')
    texts = Markup().join(text.format(axis.at(tick), f"{tick:.1f}") for tick in axis.ticks)
    return PlotRow(track=Markup('<svg aria-hidden="true">{}</svg>').format(texts), classes="scale")


def minimum_head(axis: Axis, minimum: float) -> PlotRow:
    """The name of the minimum's line, above a plot."""
    share, at = axis.share(minimum), axis.at(minimum)
    anchor = "start" if share < EDGE else "end" if share > 1 - EDGE else "middle"
    text = Markup('<text class="minimum-text" x="{}" y="16" text-anchor="{}">minimum {}</text>')
    named = text.format(at, anchor, minimum_figure(minimum))
    return PlotRow(track=Markup('<svg aria-hidden="true">{}</svg>').format(named), classes="scale")


def interval_row(
    axis: Axis, interval: Interval, *, label: str, note: str = "", mark: Mark = "plain", minimum: float | None = None
) -> PlotRow:
    """A dot with its interval."""
    is_variant = mark in ("approved", "refused")
    whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="50%" y2="50%"/>')
    dot = Markup('<circle class="dot" cx="{}" cy="50%" r="{}"/>').format(
        axis.at(interval.value), 6.5 if is_variant else 4.5
    )
    marks = Markup('<g class="{}">{}{}</g>').format(
        mark, whisker.format(axis.at(interval.lower), axis.at(interval.upper)), dot
    )
    text = interval_text(interval, against=minimum)
    said = f"{label}: {text} on {counted(interval.count, 'document')}"
    value, _, bounds = text.partition(" ")
    return PlotRow(
        track=_track(said, axis, marks, minimum),
        label=label,
        note=note,
        value=value,
        bounds=bounds,
        classes="strong" if is_variant else "tight" if mark == "plain" else "",
    )


def value_row(axis: Axis, value: float, *, label: str, note: str, minimum: float | None = None) -> PlotRow:
    """A diamond, for a number without an interval."""
    diamond = Markup(
        '<g class="reference"><svg x="{}" y="50%" overflow="visible">'
        '<path class="dot" d="M0-6 6 0 0 6-6 0Z"/></svg></g>'
    )
    text = figure(value, against=minimum)
    track = _track(f"{label}: {text}", axis, diamond.format(axis.at(value)), minimum)
    return PlotRow(track=track, label=label, note=note, value=text)


def reliability_diagram(table: Reliability) -> Markup:
    """Claimed confidence against accuracy; points on the diagonal claim what is true."""
    grid = Markup(
        '<line class="grid" x1="{0:.0f}" x2="{0:.0f}" y1="0" y2="{2:.0f}"/>'
        '<line class="grid" x1="0" x2="{2:.0f}" y1="{0:.0f}" y2="{0:.0f}"/>'
        '<text x="{0:.0f}" y="{3:.0f}" text-anchor="middle">{1:.1f}</text>'
        '<text x="-8" y="{4:.0f}" text-anchor="end">{1:.1f}</text>'
    )
    steps = [SIDE * step / 5 for step in range(6)]
    lines = Markup().join(grid.format(x, x / SIDE, SIDE, SIDE + 18, SIDE - x + 4) for x in steps)
    point = Markup(
        '<line class="whisker" x1="{0:.1f}" x2="{0:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>'
        '<circle class="dot" cx="{0:.1f}" cy="{1:.1f}" r="{4:.1f}"/>'
    )
    most = max(part.accuracy.count for part in table.bins)
    points = Markup().join(
        point.format(
            SIDE * part.confidence,
            *(SIDE * (1 - share) for share in (part.accuracy.value, part.accuracy.lower, part.accuracy.upper)),
            3.0 + 5.0 * math.sqrt(part.accuracy.count / most),
        )
        for part in table.bins
    )
    page = Markup(
        '<svg viewBox="-46 -10 {width:.0f} {height:.0f}" role="img" aria-label="{said}">{lines}'
        '<line class="diagonal" x1="0" y1="{side:.0f}" x2="{side:.0f}" y2="0"/><g class="plain">{points}</g>'
        '<text x="{half:.0f}" y="{below:.0f}" text-anchor="middle">claimed confidence</text>'
        '<text transform="translate(-36 {half:.0f}) rotate(-90)" text-anchor="middle">share right</text></svg>'
    )
    said = f"Confidence against accuracy; expected calibration error {figure(table.expected_error)}"
    sizes = {"width": SIDE + 60, "height": SIDE + 58, "side": SIDE, "half": SIDE / 2, "below": SIDE + 40}
    return page.format(said=said, lines=lines, points=points, **sizes)


def _track(said: str, axis: Axis, marks: Markup, minimum: float | None) -> Markup:
    line = Markup('<line class="{0}" x1="{1}" x2="{1}" y1="0" y2="100%"/>')
    lines = Markup().join(line.format("grid", axis.at(tick)) for tick in axis.ticks)
    if minimum is not None:
        lines += line.format("minimum", axis.at(minimum))
    return Markup('<svg role="img" aria-label="{}">{}{}</svg>').format(said, lines, marks)
