"""Pictures for panels: a line chart with intervals, and bars; inline SVG in the page's own colours.

Pages colour them by the style sheet `charts.css`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup
from pydantic import Field

from llm_platform.records import Record
from llm_platform.records.figures import figure

WIDTH, HEIGHT = 520.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 14.0, 46.0
TICKS = 4
MARKERS = ("chart-a", "chart-b", "chart-c", "chart-d")


class Point(Record):
    """One point of a line, with its interval where there is one."""

    x: float
    y: float
    lower: float | None = None
    upper: float | None = None


class Line(Record):
    """A named line; its points in the order of `x`."""

    name: str
    points: tuple[Point, ...] = Field(min_length=1)


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, y_label: str, minimum: float | None = None) -> str:
    """Lines over one axis, whiskers where points have intervals, and a dashed line at `minimum`.

    Lines differ in dash as well as in shade, and each is named at its end; `title` is what a screen reader says.
    """
    points = [point for line in lines for point in line.points]
    ys = [bound for point in points for bound in (point.y, point.lower, point.upper) if bound is not None]
    ys += [minimum] if minimum is not None else []
    across, up = _Scale.of([point.x for point in points]), _Scale.of(ys)
    parts = [_axes(across, up, x_label=x_label, y_label=y_label)]
    if minimum is not None:
        parts.append(_line("minimum", (LEFT, up.y(minimum)), (WIDTH - RIGHT, up.y(minimum))))
    for index, line in enumerate(lines):
        parts.append(_drawn(line, across, up, MARKERS[index % len(MARKERS)]))
    if len(lines) > 1:
        parts.append(_legend([line.name for line in lines]))
    return _picture(title, parts, extra=18.0 * math.ceil(len(lines) / 2) if len(lines) > 1 else 0.0)


def bar_chart(
    names: Sequence[str], values: Sequence[tuple[float, ...]], *, title: str, series: Sequence[str] = ("",)
) -> str:
    """Bars of up to two series, one group per name: shares of a label then and now, for one."""
    row, inner = 30.0, WIDTH - LEFT - RIGHT - 110.0
    top = max((value for group in values for value in group), default=1.0) or 1.0
    bar = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>')
    label = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    parts: list[Markup] = []
    for index, (name, group) in enumerate(zip(names, values, strict=True)):
        y, thickness = TOP + index * row, (row - 8.0) / len(group)
        parts.append(label.format(LEFT + 50.0, y + row / 2, "end", name if len(name) < 17 else f"{name[:15]}…"))
        for place, value in enumerate(group):
            width = max(1.0, inner * value / top)
            at = y + place * thickness
            parts.append(bar.format(MARKERS[place], LEFT + 58.0, at, width, thickness - 1.0))
            parts.append(label.format(LEFT + 64.0 + width, at + thickness - 1.0, "start", figure(value)))
    height = TOP + row * len(names) + 6.0
    if len(series) > 1:
        parts += _swatches(series, top=height + 8.0)
        height += 24.0
    return _picture(title, parts, height=height)


class _Scale(Record):
    """A stretch of numbers, widened to round ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def of(cls, values: Sequence[float]) -> _Scale:
        low, high = min(values), max(values)
        spread = (high - low) or abs(high) or 1.0
        rough = spread / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= rough)
        first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(low=first, high=last if last > first else first + step, step=step)

    @property
    def ticks(self) -> list[float]:
        return [self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1)]

    def text(self, value: float) -> str:
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9)) if self.step < 1 else 0
        digits += 1 if self.step < 1 and round(self.step, digits) != self.step else 0
        return f"{value:,.{digits}f}"

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.low) / (self.high - self.low)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)


def _line(name: str, start: tuple[float, float], end: tuple[float, float]) -> Markup:
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(name, *start, *end)


def _axes(across: _Scale, up: _Scale, *, x_label: str, y_label: str) -> Markup:
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    parts = []
    for tick in up.ticks:
        parts.append(_line("grid", (LEFT, up.y(tick)), (WIDTH - RIGHT, up.y(tick))))
        parts.append(text.format(LEFT - 8, up.y(tick) + 4, "end", up.text(tick)))
    parts += [text.format(across.x(tick), HEIGHT - BOTTOM + 18, "middle", across.text(tick)) for tick in across.ticks]
    parts.append(text.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", x_label))
    turned = Markup('<text transform="translate(12 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(turned.format((TOP + HEIGHT - BOTTOM) / 2, y_label))
    return Markup().join(parts)


def _drawn(line: Line, across: _Scale, up: _Scale, marker: str) -> Markup:
    places = [(across.x(point.x), up.y(point.y)) for point in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [Markup('<path class="{}" d="{}"/>').format(marker, path)]
    for point, (x, y) in zip(line.points, places, strict=True):
        if point.lower is not None and point.upper is not None:
            parts.append(_line(f"bar-line {marker}", (x, up.y(point.lower)), (x, up.y(point.upper))))
        parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.2"/>').format(marker, x, y))
    return Markup().join(parts)


def _legend(names: Sequence[str]) -> Markup:
    text = Markup('<text class="named" x="{:.1f}" y="{:.1f}">{}</text>')
    parts = []
    for index, name in enumerate(names):
        x, y = LEFT + (index % 2) * (WIDTH - LEFT) / 2, HEIGHT + 10.0 + 18.0 * (index // 2)
        marker = MARKERS[index % len(MARKERS)]
        parts.append(_line(f"bar-line {marker}", (x, y - 4), (x + 22, y - 4)))
        parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.2"/>').format(marker, x + 11, y - 4))
        parts.append(text.format(x + 30, y, name))
    return Markup().join(parts)


def _swatches(names: Sequence[str], *, top: float) -> list[Markup]:
    """What the bars of each series look like."""
    shown = Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="12" height="12" rx="2"/>'
        '<text class="named" x="{:.1f}" y="{:.1f}">{}</text>'
    )
    lefts = [LEFT + 58.0 + index * 160.0 for index in range(len(names))]
    return [
        shown.format(MARKERS[index], left, top - 10.0, left + 18.0, top, name)
        for index, (left, name) in enumerate(zip(lefts, names, strict=True))
    ]


def _picture(title: str, parts: Sequence[Markup], *, height: float = HEIGHT, extra: float = 0.0) -> str:
    page = Markup('<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>')
    return str(page.format(WIDTH, height + extra, title, Markup().join(parts)))
