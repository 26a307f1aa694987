"""The loss curve of a training, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from llm_platform.records import TrainingMetrics

WIDTH, HEIGHT = 560.0, 220.0
SMOOTHING = 0.8

Points = Sequence[tuple[float, float]]


def loss_curve(metrics: TrainingMetrics) -> str:
    """Training loss as a line, validation loss as dots with the kept step marked; SVG that takes a page's colours."""
    training = _smoothed(metrics.losses)
    validation = [(float(one.step), one.loss) for one in metrics.validations]
    steps = max(1.0, *(step for step, _ in [*training, *validation])) if training or validation else 1.0
    highest = max([loss for _, loss in [*training, *validation]] or [1.0]) * 1.05 or 1.0

    def at(step: float, loss: float) -> tuple[str, str]:
        return f"{WIDTH * step / steps:.1f}", f"{HEIGHT * (1 - loss / highest):.1f}"

    line = " ".join(",".join(at(*point)) for point in training)
    dots = Markup().join(
        Markup('<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="currentColor" stroke-width="1.5"/>').format(
            *at(step, loss), *((6, "currentColor") if step == metrics.best_step else (3.5, "none"))
        )
        for step, loss in validation
    )
    kept = metrics.kept
    said = f"Loss over {metrics.steps} steps; kept step {metrics.best_step}" + (
        f" with validation loss {kept.loss:.3f}" if kept else ""
    )
    page = Markup(
        '<svg viewBox="-44 -12 {width:.0f} {height:.0f}" role="img" aria-label="{said}" font-size="12" '
        'fill="currentColor">{grid}'
        '<polyline points="{line}" fill="none" stroke="currentColor" stroke-opacity="0.55" stroke-width="1.5"/>{dots}'
        '<text x="{middle:.0f}" y="{below:.0f}" text-anchor="middle">'
        "step (line: training; dots: validation; filled: kept)</text></svg>"
    )
    return str(
        page.format(
            width=WIDTH + 60,
            height=HEIGHT + 58,
            said=said,
            grid=_grid(steps, highest),
            line=line,
            dots=dots,
            middle=WIDTH / 2,
            below=HEIGHT + 38,
        )
    )


def _smoothed(losses: Sequence[tuple[int, float]]) -> Points:
    """A moving average without the bias of its beginning."""
    points, average = [], 0.0
    for count, (step, loss) in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        points.append((float(step), average / (1 - SMOOTHING**count)))
    return points


def _grid(steps: float, highest: float) -> Markup:
    line = Markup(
        '<line x1="0" x2="{0:.0f}" y1="{1:.1f}" y2="{1:.1f}" stroke="currentColor" stroke-opacity="0.15"/>'
        '<text x="-6" y="{2:.1f}" text-anchor="end">{3:.2f}</text>'
    )
    mark = Markup('<text x="{:.1f}" y="{:.0f}" text-anchor="middle">{:.0f}</text>')
    quarters = [part / 4 for part in range(5)]
    lines = Markup().join(
        line.format(WIDTH, HEIGHT * (1 - share), HEIGHT * (1 - share) + 4, share * highest) for share in quarters
    )
    return lines + Markup().join(mark.format(WIDTH * share, HEIGHT + 18, share * steps) for share in quarters)
