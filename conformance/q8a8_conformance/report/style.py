"""The HTML report's style: system fonts, light and dark as the reader's system is, plain on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --good: #1a7f37; --bad: #cf222e;
  --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa; --used: #0969da; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --good: #3fb950;
  --bad: #ff7b72; --dim: #9198a1; --line: #3d444d; --soft: #151b23; --used: #4493f8; --warn: #d29922; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; } .about, .dim { color: var(--dim); }
.verdict { font-size: 1.05rem; border: 1px solid; border-left-width: .5rem; border-radius: .3rem;
  padding: .7rem 1rem; margin: 1.2rem 0; }
.verdict b { font-size: 1.25rem; margin-right: .5rem; }
.pass, .conforms { color: var(--good); } .fail, .crashed, .does-not-conform { color: var(--bad); }
.not-run, .nothing-ran, .not-reached, .connection-lost, .broken, .interrupted { color: var(--dim); }
.differs { color: var(--warn); } .crashed { font-weight: 600; }
.warning { color: var(--warn); }
.chips { display: flex; flex-wrap: wrap; gap: .3rem; }
.chip { font: .75rem/1.6 ui-monospace, monospace; border: 1px solid; border-radius: .25rem; padding: 0 .4rem;
  text-decoration: none; }
.chip.fail, .chip.crashed { background: var(--bad); border-color: var(--bad); color: var(--paper); }
.chip.not-run { border-style: dashed; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
th { color: var(--dim); font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
code, pre { font: .86rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem; border-radius: .3rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .5rem 0; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem; margin: 1rem 0; }
figure { margin: 1.2rem 0; } figcaption { margin-bottom: .3rem; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .9rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
svg text[text-anchor="start"] { text-anchor: start; } svg text[text-anchor="end"] { text-anchor: end; }
svg .dim { fill: var(--dim); }
.plot { max-width: 45rem; } .plot .room { fill: var(--line); } .plot .used, .plot .bar { fill: var(--used); }
.plot .axis { stroke: var(--dim); } .plot .lead { stroke: var(--line); fill: none; stroke-dasharray: 3 3; }
.tree path { fill: none; stroke: var(--dim); } .tree circle { fill: var(--used); } .tree { width: auto; }
.bits text { font-size: 11px; } .bits .bit { fill: var(--soft); stroke: var(--line); }
.bits .differs { fill: var(--bad); stroke: var(--bad); } .bits .on-differs { fill: var(--paper); }
@media (max-width: 40rem) { thead { display: none; } table, tbody, tr, td { display: block; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; } td { border: 0; padding: .1rem 0; }
  td, td:first-child { white-space: normal; overflow-wrap: anywhere; } td.number { text-align: left; }
  td[data-label]:not([data-label=""])::before { content: attr(data-label) ": "; color: var(--dim); }
  td { display: inline-block; margin-right: 1rem; } td:empty { display: none; }
  p code { overflow-wrap: anywhere; }
  dl { grid-template-columns: 1fr; } dd { margin: 0 0 .4rem; } }
@media print { body { max-width: none; margin: 0; } article, figure { break-inside: avoid; } }
"""
