"""A page of panels on its own, in the look of the report card, for what is measured between reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_platform.evaluation.pages import render
from llm_platform.evaluation.panel import Panel

Tiles = Mapping[str, tuple[str, str]]


def render_page(
    panels: Sequence[Panel],
    *,
    kind: str,
    name: str,
    title: str,
    date: str,
    lede: str = "",
    tiles: Tiles | None = None,
    footer: Sequence[str] = (),
) -> str:
    """A page that needs no script, network or other file.

    Args:
        panels: Its sections, in order.
        kind: What the page is, e.g. `drift`.
        name: Of what it is about, as it is written in files.
        title: The same in words.
        date: When it was measured.
        lede: One sentence under the title.
        tiles: Few numbers at the top: name → (value, note).
        footer: What a reader has to know of how it was measured.
    """
    return render(
        "panels.html",
        styles=("card.css", "charts.css", "panels.css"),
        panels=panels,
        kind=kind,
        name=name,
        title=title,
        date=date,
        lede=lede,
        tiles=tiles or {},
        footer=footer,
    )
