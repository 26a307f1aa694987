"""Pictures of the figures, with colours that read on a light and on a dark page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform_tests.benchmarks.measures import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS, LIMIT, INK = "#0f766e", "#9ca3af", "#b45309", "#1f2937"


def draw(figures: dict[str, Figures], folder: Path) -> None:
    """Write the pictures that the figures are complete enough for."""
    folder.mkdir(parents=True, exist_ok=True)
    if "cpu_per_row" in figures:
        _cpu(figures["cpu_per_row"], folder / "performance_cpu.svg")
    if "found_limit" in figures:
        _limits(figures["found_limit"], folder / "performance_limit.svg")


def _cpu(figures: Figures, path: Path) -> None:
    bars = [
        ("AsyncOpenAI, 256 in flight, nothing stored", figures["sdk_256_cpu_ms"], THEIRS),
        ("AsyncOpenAI, 64 in flight, nothing stored", figures["sdk_64_cpu_ms"], THEIRS),
        ("llm_platform, 64 in flight, lake to lake", figures["ours_64_cpu_ms"], OURS),
        ("llm_platform, 256 in flight, lake to lake", figures["ours_256_cpu_ms"], OURS),
        ("the same, a label instead of five fields", figures["label_256_cpu_ms"], OURS),
    ]
    figure, axes = _page(7.6, 2.7)
    names = [name for name, _, _ in bars]
    values = [value for _, value, _ in bars]
    drawn = axes.barh(names, values, color=[colour for _, _, colour in bars], height=0.62)
    axes.bar_label(drawn, labels=[f"{value:.2f}" for value in values], padding=4, color=INK, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(values))
    axes.set_xlabel("client CPU per row, ms, in one run", color=INK)
    _save(figure, path)


def _limits(figures: Figures, path: Path) -> None:
    figure, axes = _page(7.6, 3.0)
    slots = figures["slots"]
    axes.axhline(slots, color=LIMIT, linewidth=1.2, linestyle="--")
    # Below the line and past the start, where neither curve runs.
    axes.text(1.2, slots * 0.95, f"{slots} slots", color=LIMIT, fontsize=9, va="top")
    for name, colour, label in (
        ("gauges", OURS, "the endpoint publishes its queue"),
        ("no_gauges", THEIRS, "found from the rate of answers"),
    ):
        points = [(second, limit) for second, limit, flying in figures[f"{name}_limits"] if flying]
        axes.plot([one for one, _ in points], [two for _, two in points], color=colour, linewidth=2, label=label)
    axes.set_xlabel("seconds since the start", color=INK)
    axes.set_ylabel("requests in flight allowed", color=INK)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    _save(figure, path)


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    # Without pyplot: no window system, no state that outlives the picture.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("white")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(THEIRS)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    # Stable ids and no date: the same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "llm-platform", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
