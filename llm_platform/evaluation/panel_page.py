"""A page of panels on its own, in the look of the report card, for what is measured between reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_platform.evaluation import charts
from llm_platform.evaluation.card_style import STYLE
from llm_platform.evaluation.panel import Panel

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}: {{ kind }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<p class="kicker">{{ kind | capitalize }} · <span class="id">{{ name }}</span> · {{ date }}</p>
<h1>{{ title }}</h1>
<p class="lede">{{ lede }}</p>
{%- if tiles %}
<dl class="tiles">
{%- for name, (value, note) in tiles.items() %}
<div><dt>{{ name }}</dt><dd>{{ value }}<small>{{ note }}</small></dd></div>
{%- endfor %}
</dl>
{%- endif %}
<div class="panels">
{%- for panel in panels %}
<section{% if panel.wide %} class="wide"{% endif %}>
<h2>{{ panel.title }}</h2>
{%- if panel.note %}<p class="note">{{ panel.note }}</p>{% endif %}
{{ panel.picture | safe }}
{%- if panel.rows %}
<div class="scroll"><table class="plain words">
<thead><tr>{% for column in panel.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in panel.rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endif %}
</section>
{%- endfor %}
</div>
<footer>{% for line in footer %}<p>{{ line }}</p>{% endfor %}</footer>
</main>
</body>
</html>
"""

LAYOUT = """
.panels {
  display: grid; column-gap: 3rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  align-items: start;
}
.panels > section { min-width: 0; } .panels > .wide { grid-column: 1 / -1; }
table.words td, table.words th { text-align: left; } table.words th[scope="row"] { overflow-wrap: break-word; }
"""

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
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
    texts = {"kind": kind, "name": name, "title": title, "date": date, "lede": lede}
    return page.render(style=STYLE + charts.STYLE + LAYOUT, panels=panels, tiles=tiles or {}, footer=footer, **texts)
