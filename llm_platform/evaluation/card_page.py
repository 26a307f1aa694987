"""The page of a report card, as a Jinja template that escapes whatever it is given."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}: report card</title>
<style>{{ style | safe }}</style>
</head>
<body>
{%- macro badge(state) %}
<span class="badge"><svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"
  stroke-linejoin="round" aria-hidden="true"><path d="{{ icons[state] }}"/></svg>{{ badges[state] }}</span>
{%- endmacro %}
{%- macro plot(rows) %}
<div class="plot">
{%- for row in rows %}
<div class="row {{ row.classes }}">
<div class="label">{{ row.label }}{% if row.note %} <small>{{ row.note }}</small>{% endif %}</div>
<div class="track">{{ row.track }}</div>
<div class="figure">{% if row.value %}<b>{{ row.value }}</b> <small>{{ row.bounds }}</small>{% endif %}</div>
</div>
{%- endfor %}
</div>
{%- endmacro %}
{%- macro matrix(columns, rows) %}
<div class="scroll"><table class="matrix">
<thead><tr><td></td>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in rows %}
<tr><th scope="row">{{ row.name }}</th>
{%- for cell in row.cells %}
<td{% if cell.right %} class="right"{% endif %} style="background:rgb(var(--wash) / {{ cell.wash }})">{{ cell.count -}}
<small>{{ cell.share }}</small></td>
{%- endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro %}
{%- macro listing(columns, rows) %}
<div class="scroll"><table class="plain">
<thead><tr>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro %}
{%- macro shown(panel) %}
{%- if panel.note %}<p class="note">{{ panel.note }}</p>{% endif %}
{%- if panel.picture %}<div class="picture">{{ panel.picture | safe }}</div>{% endif %}
{%- if panel.rows %}{{ listing(panel.columns, panel.rows) }}{% endif %}
{%- endmacro %}
<main>
<p class="kicker">Report card · <span class="id">{{ application }}</span> · {{ date }}</p>
<h1>{{ title }}</h1>
<p class="lede">{{ lede }}</p>
<div class="verdicts">
{%- for verdict in verdicts %}
<article class="verdict {{ verdict.state }}">
<header><span class="name">{{ verdict.variant }}</span>{{ badge(verdict.state) }}</header>
<p class="big">{{ verdict.value }}</p>
<p class="range">{{ verdict.range }}</p>
<p class="why">{{ verdict.why }}</p>
</article>
{%- endfor %}
</div>
{%- if key_rows %}
<section>
<h2>{{ measure }} against what it has to beat</h2>
<p class="note">{{ key_note }}</p>
{{- plot(key_rows) }}
</section>
{%- endif %}
{%- if steps %}
<section>
<h2>What to do next</h2>
<ul class="steps">
{%- for step in steps %}
<li><b>{{ step.variant }}</b><div>
{%- if step.next %}<p>{{ step.next }}</p>{% endif %}<p class="because">{{ step.reason }}</p></div></li>
{%- endfor %}
</ul>
</section>
{%- endif %}
{%- if changes %}
<section>
<h2>What changed since the last report</h2>
<div class="parts">
{%- for change in changes %}
<div><h3>{{ change.variant }}</h3><p class="note">{{ change.note }}</p>
{%- if change.rows %}{{ listing(change.columns, change.rows) }}{% endif %}</div>
{%- endfor %}
</div>
</section>
{%- endif %}
{%- for comparison in comparisons %}
<section>
<h2>{{ comparison.a }} and {{ comparison.b }}, document by document</h2>
<p class="note">{{ comparison.note }}</p>
<div class="parts">
{{- matrix(comparison.columns, comparison.rows) }}
{%- if comparison.ids %}
<div><h3>Where they part</h3>
<p class="note">Documents to read first: one variant is right, the other wrong.
{%- if comparison.review_url %}
<a href="{{ comparison.review_url }}">Read and judge them on the review page</a>.{% endif %}</p>
<ul class="ids">{% for id in comparison.ids %}<li class="id">{{ id }}</li>{% endfor %}</ul></div>
{%- endif %}
</div>
</section>
{%- endfor %}
{%- for variant in variants %}
<section>
<h2>{{ variant.name }}</h2>
<p class="note">{{ variant.made_by }}</p>
<dl class="tiles">
{%- for tile in variant.tiles %}
<div><dt>{{ tile.name }}</dt><dd>{{ tile.value }}<small>{{ tile.note }}</small></dd></div>
{%- endfor %}
</dl>
{%- if variant.ungraded %}
<p class="note">Ungraded, and counted neither as right nor as wrong: {{ variant.ungraded }}.</p>
{%- endif %}
<div class="parts">
{%- if variant.labels %}
<div class="stack">
{%- if variant.confusion %}
<div><h3>Reference by row, answer by column</h3>
{{- matrix(variant.confusion.columns, variant.confusion.rows) }}</div>
{%- endif %}
{%- if variant.mistakes %}
<div><h3>Most frequent mistakes</h3>
{{- listing(["reference", "answer", "documents"], variant.mistakes) }}</div>
{%- endif %}
<div><h3>{{ variant.labels_title }}</h3>
{{- listing(["label", "precision", "recall", "F1", "documents"], variant.labels) }}</div>
</div>
{%- endif %}
{%- if variant.reliability %}
<div><h3>Can its confidence be believed?</h3>
<div class="figure-square">{{ variant.reliability }}</div>
<p class="note">{{ variant.reliability_note }}</p></div>
{%- endif %}
{%- for part in variant.plots %}
<div class="wide"><h3>{{ part.title }}</h3>{{ plot(part.rows) }}
{%- if part.note %}<p class="note">{{ part.note }}</p>{% endif %}</div>
{%- endfor %}
{%- for panel in panels if panel.variant == variant.name %}
<div{% if panel.wide %} class="wide"{% endif %}><h3>{{ panel.title }}</h3>{{ shown(panel) }}</div>
{%- endfor %}
<div class="wide"><h3>Gates</h3>{{ listing(["gate", "measured", "limit", "verdict"], variant.gates) }}</div>
</div>
</section>
{%- endfor %}
{%- for panel in panels if panel.variant not in variant_names %}
<section>
<h2>{{ panel.title }}</h2>{{ shown(panel) }}
</section>
{%- endfor %}
<section>
<h2>Where this came from</h2>
<div class="parts">
{%- for source in sources %}
<div><h3>{{ source.title }}</h3><table class="facts"><tbody>
{%- for name, value in source.facts %}
<tr><th scope="row">{{ name }}</th><td class="id">{{ value }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- endfor %}
</div>
</section>
<footer>
<p>{{ measured_on }} An invalid, truncated or rejected answer counts as wrong, because its reader gets
nothing. Documents with one text count as one observation.</p>
<p>{{ intervals }} No text of a document is on this page.</p>
</footer>
</main>
</body>
</html>
"""
