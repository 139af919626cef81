"""How a page looks: everything in the page itself, light and dark, wide and narrow."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --edge: #e3e6ea; --ink: #1b2027; --soft: #5d6774; --grid: #e6e9ed;
  --track: #eef0f3; --ours: #0b66c3; --theirs: #9aa6b4;
  --s0: #0b66c3; --s1: #d9730d; --s2: #0f8a6a; --s3: #b83280; --s4: #7a5af0; --s5: #7d6b2e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --card: #1a1e25; --edge: #2b313a; --ink: #e7eaee; --soft: #9aa5b2; --grid: #2a3039;
    --track: #252b34; --ours: #5aa9f5; --theirs: #667281;
    --s0: #5aa9f5; --s1: #f0a04b; --s2: #4cc7a0; --s3: #ee7fb8; --s4: #a995ff; --s5: #cdb968;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 48px; }
header { margin-bottom: 20px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 44px 0 14px; letter-spacing: -.01em; }
h3 { font-size: 15px; margin: 0 0 12px; font-weight: 600; }
.lead { color: var(--soft); margin: 6px 0 0; }
.caveat { font-weight: 600; margin: 6px 0 0; }
nav { margin-top: 12px; display: flex; flex-wrap: wrap; gap: 8px; }
nav a {
  color: var(--ink); text-decoration: none; background: var(--card); border: 1px solid var(--edge);
  border-radius: 999px; padding: 2px 12px; font-size: 14px;
}
nav a:hover { border-color: var(--ours); color: var(--ours); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px; margin: 0 0 16px; }
.tile, .card { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 22px; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; }
.tile b { white-space: nowrap; }
.tile b small { font-size: 13px; font-weight: 500; }
.tile span { color: var(--soft); font-size: 13px; }
.cards { columns: 2 400px; column-gap: 16px; }
.cards:has(> :only-child) { columns: 1; }
.cards:has(> :nth-child(2):last-child) {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); align-items: start;
}
.cards .card { break-inside: avoid; display: inline-block; vertical-align: top; width: 100%; }
.card { margin: 0 0 16px; }
.card { padding: 18px 20px; min-width: 0; }
.note { color: var(--soft); font-size: 13px; margin: 10px 0 0; }
main > .note { margin: 0 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
th small { display: block; font-weight: 400; font-size: 12px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child td { border-bottom: 0; }
td, .value, .tile b { font-variant-numeric: tabular-nums; }
td small { color: var(--soft); display: block; font-size: 12px; }
tr.ours td { font-weight: 650; }
tr.ours td small { font-weight: 400; }
tr.ours td:first-child { color: var(--ours); }
td.best span::after { content: ""; display: inline-block; width: 6px; height: 6px; border-radius: 50%;
  background: var(--ours); margin-left: 6px; vertical-align: middle; }
tr:has(td.words) td { vertical-align: top; }
td.words, th.words { text-align: left; white-space: normal; }
dl { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 4px 16px; margin: 0; font-size: 14px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
ul.plain { margin: 0; padding: 0; list-style: none; font-size: 14px; }
ul.plain li { padding: 2px 0; overflow-wrap: anywhere; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 12px; }
footer { color: var(--soft); font-size: 13px; margin-top: 32px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: -4px 0 6px; font-size: 13px; color: var(--soft); }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
.swatch.s0 { background: var(--s0); } .swatch.s1 { background: var(--s1); } .swatch.s2 { background: var(--s2); }
.swatch.s3 { background: var(--s3); } .swatch.s4 { background: var(--s4); } .swatch.s5 { background: var(--s5); }
svg.chart { display: block; overflow: visible; font-size: 13px; }
svg.stretched { overflow: visible; }
svg text { fill: var(--ink); stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
svg .value { fill: var(--soft); }
svg .tick { fill: var(--soft); font-size: 12px; }
svg .strong { font-weight: 650; fill: var(--ink); }
svg .grid { stroke: var(--grid); }
svg .base { stroke: var(--edge); }
svg .track { fill: var(--track); }
svg .bar.ours, svg .dot.ours { fill: var(--ours); }
svg .bar.theirs, svg .dot.theirs { fill: var(--theirs); }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg .range { stroke-width: 3; stroke-linecap: round; opacity: .45; }
svg .range.ours { stroke: var(--ours); } svg .range.theirs { stroke: var(--theirs); }
svg .ridge.ours { fill: var(--ours); opacity: .8; } svg .ridge.theirs { fill: var(--theirs); opacity: .75; }
svg .mark { stroke: var(--ink); stroke-width: 1.5; } svg .mark.tail { stroke-dasharray: 3 3; }
svg .curve { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
svg .spread { stroke-width: 2; opacity: .5; }
svg .s0 { stroke: var(--s0); } svg .s1 { stroke: var(--s1); } svg .s2 { stroke: var(--s2); }
svg .s3 { stroke: var(--s3); } svg .s4 { stroke: var(--s4); } svg .s5 { stroke: var(--s5); }
svg .point { fill: var(--card); stroke-width: 2; }
@media (max-width: 560px) {
  main { padding: 18px 12px 32px; }
  .card { padding: 14px; }
  h1 { font-size: 22px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile b { font-size: 18px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""
