"""Pages as template files: one HTML file each, in which nothing is fetched, and everything that is given is escaped.

One accent colour, light and dark, screen and paper: a blue that stays apart from grey for every kind of colour
blindness. No meaning rests on colour alone, since marks differ in shape and every outcome is a word.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = "llm_platform.evaluation"


def render(template: str, *, styles: tuple[str, ...], **values: Any) -> str:
    """A page of `templates/`, with the style sheets of these names in it."""
    return _templates().get_template(template).render(style=Markup("".join(map(style_sheet, styles))), **values)


@cache
def style_sheet(name: str) -> str:
    """A style sheet of `templates/`."""
    return (files(FOLDER) / "templates" / name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
