"""The look of a report card: one accent colour, light and dark, screen and paper.

The accent is a blue that stays apart from grey for every kind of colour blindness; no meaning rests on colour alone,
since marks differ in shape and every verdict is a word.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f7; --panel: #ffffff; --ink: #1c2024; --soft: #5a636c; --faint: #949ca3; --rule: #e4e2dd;
  --accent: #0b63a5; --wash: 11 99 165;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131619; --panel: #1a1e22; --ink: #e9ebed; --soft: #a3acb4; --faint: #6d767e; --rule: #2c3238;
    --accent: #6db5ef; --wash: 109 181 239;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 Inter, -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, Cantarell, Ubuntu, "Noto Sans",
    "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: lining-nums tabular-nums; text-rendering: optimizeLegibility;
}
main { max-width: 62rem; margin: 0 auto; }
h1, h2, h3, p, table, ul, dl, dd { margin: 0; padding: 0; }
ul { list-style: none; }
h1 { font-size: clamp(1.9rem, 5vw, 2.7rem); line-height: 1.1; letter-spacing: -0.025em; text-wrap: balance; }
h2 { font-size: 1.28rem; line-height: 1.25; letter-spacing: -0.012em; margin-bottom: 0.35rem; }
h3 { font-size: 0.92rem; margin-bottom: 0.7rem; }
h1, h2, h3, b, .name { font-weight: 650; }
a { color: var(--accent); text-underline-offset: 0.15em; }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.kicker { color: var(--soft); font-size: 0.86rem; margin-bottom: 0.6rem; }
.lede { color: var(--soft); font-size: 1.12rem; max-width: 42rem; margin-top: 0.7rem; text-wrap: pretty; }
.note { color: var(--soft); font-size: 0.86rem; max-width: 46rem; margin-top: 0.7rem; text-wrap: pretty; }
section { margin-top: 2.6rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); }
section > h2 + .note { margin: 0 0 1.1rem; }
h3 + .note { margin-top: -0.4rem; }
.id {
  font-family: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: 0.86em; overflow-wrap: anywhere;
}

.verdicts {
  display: grid; gap: 1rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr));
}
.verdict {
  background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; padding: 1.15rem 1.3rem 1.3rem;
}
.verdict.approved { border-color: var(--accent); box-shadow: inset 0 3px 0 var(--accent); }
.verdict.pending { border-style: dashed; background: none; }
.verdict.pending .big { color: var(--faint); }
.verdict header { display: flex; justify-content: space-between; align-items: baseline; gap: 0.8rem; flex-wrap: wrap; }
.verdict .name { overflow-wrap: anywhere; }
.badge {
  display: inline-flex; align-items: center; gap: 0.4em; font-size: 0.84rem; font-weight: 600; color: var(--soft);
}
.badge svg { width: 0.95em; height: 0.95em; }
.big { font-size: 3.1rem; line-height: 1; font-weight: 640; letter-spacing: -0.04em; margin: 0.9rem 0 0.3rem; }
.approved .badge, .approved .big { color: var(--accent); }
.range { color: var(--soft); font-size: 0.9rem; }
.verdict .why { margin-top: 0.8rem; font-size: 0.93rem; text-wrap: pretty; overflow-wrap: anywhere; }

.row { display: grid; grid-template-columns: minmax(8rem, 13.5rem) minmax(0, 1fr) 9.4rem; column-gap: 1.4rem; }
.row > div { align-self: center; }
.row > .track { align-self: stretch; position: relative; min-height: 3.1rem; }
.row.tight > .track { min-height: 2.7rem; }
.row.scale > .track { min-height: 1.6rem; }
.track > svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.row .label { font-size: 0.93rem; line-height: 1.3; overflow-wrap: anywhere; }
.row .figure { font-size: 0.93rem; white-space: nowrap; }
.row small { color: var(--soft); font-size: 0.8rem; font-weight: 400; }
.row .label small { display: block; }
.row .figure b { font-weight: 500; }
.row.strong .label, .row.strong .figure b { font-weight: 650; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .minimum { stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 3 3; }
svg .minimum-text { fill: var(--ink); font-weight: 600; }
svg .whisker { stroke: var(--soft); stroke-width: 2; stroke-linecap: round; }
svg .dot { fill: var(--paper); stroke: var(--soft); stroke-width: 2; }
svg .approved .whisker, svg .plain .whisker { stroke: var(--accent); }
svg .approved .whisker { stroke-width: 3; }
svg .approved .dot, svg .plain .dot { fill: var(--accent); stroke: var(--accent); }
svg .reference .dot { fill: var(--soft); stroke: var(--soft); }
svg .diagonal { stroke: var(--faint); stroke-width: 1.25; stroke-dasharray: 3 3; }
.figure-square { width: min(100%, 21rem); }
.picture { margin-top: 0.8rem; }
.figure-square svg { display: block; width: 100%; height: auto; overflow: visible; }

.steps { display: grid; gap: 1.1rem; margin-top: 1rem; }
.steps li { display: grid; grid-template-columns: minmax(8rem, 13.5rem) minmax(0, 1fr); gap: 0.2rem 1.4rem; }
.steps b { overflow-wrap: anywhere; }
.steps p { text-wrap: pretty; max-width: 44rem; overflow-wrap: anywhere; }
.steps p + .because { color: var(--soft); font-size: 0.9rem; margin-top: 0.3rem; }

.tiles {
  display: grid; gap: 1.1rem 1.6rem; margin: 1.1rem 0 0.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr));
}
.tiles dt { color: var(--soft); font-size: 0.83rem; }
.tiles dd { font-size: 1.3rem; font-weight: 600; letter-spacing: -0.015em; }
.tiles dd small { display: block; font-size: 0.8rem; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.parts {
  display: grid; gap: 2.2rem 3rem; margin-top: 1.9rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
}
.parts > * { min-width: 0; }
.parts > .wide { grid-column: 1 / -1; }
.stack { display: grid; gap: 2rem; grid-template-columns: minmax(0, 1fr); }
.ids { columns: 2; margin-top: 0.6rem; }
.scroll { overflow-x: auto; overflow-y: hidden; }
table { border-collapse: collapse; font-size: 0.9rem; }
th { font-weight: 500; color: var(--soft); text-align: right; font-size: 0.83rem; }
td { text-align: right; }
th[scope="row"] { text-align: left; color: var(--ink); font-size: 0.9rem; overflow-wrap: anywhere; }
table.plain { width: 100%; }
table.plain th, table.plain td { padding: 0.36rem 0 0.36rem 0.9rem; border-bottom: 1px solid var(--rule); }
table.plain th:first-child { padding-left: 0; text-align: left; }
table.plain tr:last-child > * { border-bottom: 0; }
table.matrix { border-collapse: separate; border-spacing: 3px; margin: -3px; }
table.matrix td { min-width: 4.6rem; padding: 0.6rem 0.7rem; border-radius: 5px; text-align: center; font-size: 1rem; }
table.matrix td small { display: block; font-size: 0.78rem; font-weight: 400; line-height: 1.3; }
table.matrix td.right { font-weight: 650; box-shadow: inset 0 0 0 1.5px var(--accent); }
table.matrix th { padding: 0.2rem 0.5rem; text-align: center; vertical-align: bottom; }
table.matrix th[scope="row"] { text-align: left; padding-left: 0; vertical-align: middle; }
table.facts { width: 100%; }
table.facts th, table.facts td { text-align: left; padding: 0.28rem 0; vertical-align: baseline; }
table.facts th[scope="row"] { width: 6.5rem; padding-right: 1rem; color: var(--soft); white-space: nowrap; }
footer {
  margin-top: 3rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); color: var(--soft); font-size: 0.86rem;
}
footer p { max-width: 46rem; text-wrap: pretty; }
footer p + p { margin-top: 0.6rem; }

@media (max-width: 640px) {
  .row { grid-template-columns: minmax(0, 1fr) auto; padding-top: 0.5rem; }
  .row > .track, .row.tight > .track { grid-column: 1 / -1; grid-row: 2; min-height: 1.9rem; }
  .row.scale { padding-top: 0; }
  .row.scale > .track { min-height: 1.5rem; }
  .row .label small { display: inline; }
  .steps li { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: 1fr 1fr; }
  table.matrix td { min-width: 3.6rem; padding: 0.5rem; }
}
@media print {
  :root {
    --paper: #fff; --panel: #fff; --ink: #000; --soft: #444; --faint: #888; --rule: #ccc; --accent: #0b63a5;
    --wash: 11 99 165;
  }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 12px; }
  body { padding: 0; font-size: 1rem; }
  section { margin-top: 1.4rem; padding-top: 0.9rem; }
  .verdict, .row, .steps li, tr, .stack > div, .wide, .parts > div, .tiles > div, footer { break-inside: avoid; }
  .parts > .stack { break-inside: auto; }
  h2, h3, h2 + .note { break-after: avoid; }
  .scroll { overflow: visible; }
}
"""
