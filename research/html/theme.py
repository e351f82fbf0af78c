"""The style sheet of the pages, for light and dark screens, phones and print."""

CSS = """:root {
  --paper: #ffffff; --ink: #1b1f24; --faint: #6a737d; --line: #d8dee4; --soft: #f4f6f8; --shade: #00000038;
  --good: #1a7f4b; --bad: #c2302e; --warn: #9a6700; --calm: #1f6fb4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e3e7eb; --faint: #98a2ad; --line: #323a43; --soft: #1d232a; --shade: #ffffff40;
    --good: #4cc38a; --bad: #ff7b72; --warn: #e3b341; --calm: #6cb6ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .75rem; padding-bottom: .25rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
header p { margin: .25rem 0 1rem; }
p { overflow-wrap: anywhere; }
pre, code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; }
code { white-space: pre-wrap; overflow-wrap: anywhere; }
pre {
  margin: .5rem 0; padding: .75rem; background: var(--soft); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.faint, .remark { color: var(--faint); font-size: .92em; }
.badge {
  display: inline-block; padding: 0 .55em; border: 1px solid currentColor; border-radius: 1em;
  font-weight: 600; white-space: nowrap; color: var(--calm);
}
.badge.finished, .badge.met { color: var(--good); }
.badge.failed, .badge.missed { color: var(--bad); }
.badge.preempted, .badge.not-measured { color: var(--warn); }
.said.failed { border-left: 4px solid var(--bad); }

nav { margin-bottom: 1rem; font-size: .92em; }
nav a { margin-right: .9rem; white-space: nowrap; }
a { color: var(--calm); }

/* A shadow at an edge shows that a table continues there. */
.scroll {
  overflow-x: auto; margin: .5rem 0;
  background:
    linear-gradient(to right, var(--paper) 40%, transparent) left / 2rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 40%, transparent) right / 2rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll;
}
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .9rem .22rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--faint); }
th.number, td.number { text-align: right; white-space: nowrap; }
.whole { white-space: nowrap; }
.pairs th { white-space: nowrap; }
.pairs td { overflow-wrap: anywhere; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0 2rem; }

.measure { display: grid; grid-template-columns: 4rem minmax(3rem, 9rem); align-items: center; gap: .5rem; }
.measure .value { text-align: right; }
.track { border-left: 1px solid var(--line); }
.bar { display: block; border-top: .6rem solid var(--calm); }
.worst .value { font-weight: 700; color: var(--bad); }
.worst .bar { border-top-color: var(--bad); }
.verdict { font-size: 1.05rem; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tile { padding: .5rem .75rem; border: 1px solid var(--line); border-radius: 6px; color: var(--faint); }
.tile b { display: block; font-size: 1.3rem; color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .92em; }
.legend i, .stack i { display: inline-block; border-top: .7rem solid; }
.legend i { width: .7rem; margin-right: .4rem; }
.spark { display: block; width: 7.5rem; height: 1.4rem; color: var(--calm); }
.stack { display: grid; grid-template-columns: 7rem 1fr 3.4rem; gap: .1rem .5rem; font-size: .86em; }
.stack .name { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.stack .share { text-align: right; font-variant-numeric: tabular-nums; }
.plot h3 { margin: 0; overflow-wrap: anywhere; }
.plot .remark { margin: 0 0 .35rem; font-size: .86em; }

.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20.5rem), 1fr)); gap: 1rem; }
.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
.plot, .finding { break-inside: avoid; }
.plot > svg { display: block; max-width: 100%; height: auto; }
.values circle:hover { fill: var(--ink); fill-opacity: .35; }

.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1rem .75rem; }
.gallery img, .card img { width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated; }
.gallery img { background: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem; }
.card { display: flex; flex-wrap: wrap; gap: .75rem; padding: .6rem; border: 1px solid var(--line); }
.card > * { min-width: 0; }
.card figcaption { flex: 1 1 7rem; }
.card figcaption p { margin: .35rem 0 0; line-height: 1.3; }
.quotes { display: grid; gap: .75rem; }
.quotes figcaption div { display: inline; margin-right: .75rem; }
figure { margin: 0; break-inside: avoid; }
figcaption { font-size: .86em; line-height: 1.35; overflow-wrap: anywhere; }
blockquote {
  margin: 0 0 .25rem; padding: .4rem .75rem; border-left: 3px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.edits del, .edits ins { padding: 0 .15em; border-radius: 3px; }
.edits del { color: var(--bad); background: color-mix(in srgb, var(--bad) 12%, transparent); }
.edits ins { color: var(--calm); background: color-mix(in srgb, var(--calm) 12%, transparent); text-decoration: none; }
.edits ins { border-bottom: 2px solid; }
.tagged { line-height: 1.3; }
.tag { display: inline-block; margin: 0 .45em .3em 0; text-align: center; vertical-align: top; }
.tag b { display: block; font-weight: 400; border-bottom: 3px solid transparent; }
.tag small { color: var(--faint); font-size: .72em; }
.tag.wrong { padding: 0 .25em; border: 2px solid var(--bad); border-radius: 4px; }
.tag.wrong small { color: var(--bad); font-weight: 600; }
details { margin: .35rem 0; }
summary { cursor: pointer; color: var(--calm); overflow-wrap: anywhere; }

@media print {
  :root {
    --paper: #ffffff; --ink: #000000; --faint: #555555; --line: #cccccc; --soft: #f4f4f4;
    --good: #1a7f4b; --bad: #c2302e; --warn: #7a5200; --calm: #1f6fb4;
  }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, h3, summary, h2 + p, h3 + p { break-after: avoid; }
  tr { break-inside: avoid; }
  .scroll { overflow: visible; background: none; }
  /* The first row of plots of a grid stays with its heading: a grid cannot be broken there, but inline blocks can. */
  .plots, .gallery { display: block; orphans: 1; widows: 1; }
  .plots > .plot, .gallery > * { display: inline-block; width: 48%; vertical-align: top; }
  .small > .plot { width: 32%; }
  .stack { padding-right: 1rem; }
  .gallery > * { width: 8.5rem; }
  nav, .screen { display: none; }
  details::details-content { content-visibility: visible; display: block; }
}
"""
