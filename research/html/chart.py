"""Charts as inline SVG in the colours of the page: two axes, a grid, a legend and marks; no other library is needed.

    marks = [line(steps, losses, name="train"), rule(40, name="stopped")]
    chart(marks, label="loss over the step", title="loss", x=Axis("step", whole=True), y=Axis(log=True))

The marks are in `research.html.marks`. Sizes are in CSS pixels.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.html.marks import Mark, svg
from research.html.markup import Html, join, shortened

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'
ROW = 17  # height of a line of the legend
UNITS = (1e9, "G"), (1e6, "M"), (1e3, "k")
# The colours of a page on white, for files that are opened without its style sheet.
ON_WHITE = {"currentColor": "#1b1f24", "var(--line)": "#d8dee4", "var(--soft)": "#f4f6f8", "var(--paper)": "#ffffff"}


class Axis(NamedTuple):
    """An axis: its label, limits, scale and ticks.

    By default, the limits are those of the finite data with a margin of 5 %, and the ticks are round numbers. `whole`
    places them at whole numbers only. `ticks` are ((place, text), ...); () means no ticks. A y axis with `down` has its
    low end at the top.
    """

    label: str = ""
    limits: tuple[float, float] | None = None
    log: bool = False
    whole: bool = False
    ticks: Sequence[tuple[float, str]] | None = None
    down: bool = False


class Scale(NamedTuple):
    """Converts data to pixels: `low` to `start`, and `high` to `end`. Of a log scale, `low` and `high` are log10."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, data) -> np.ndarray:
        share = (_forward(data, self.log) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


PLAIN = Axis()


def chart(
    marks: Sequence[Mark], *, label: str, title: str = "", x: Axis = PLAIN, y: Axis = PLAIN, width: int = 440,
    height: int = 195, inner: float | None = None, frame: bool = True, grid: bool = True,
) -> Html:  # fmt: skip
    """Draw marks, in order, as an <svg> element that scales with the page.

    `label` describes the chart for screen readers. `width` is that of the whole, `height` that of the area between the
    axes, to which marks are clipped; its width may be given as `inner`. Without a `frame` there are no axes, and
    without a `grid` no lines at the ticks. Charts of the same size have equal frames, unless an axis needs longer
    labels or the legend more rows.
    """
    to_y = _scale(y, [mark.y for mark in marks], *((0, height) if y.down else (height, 0)))
    rows = _ticks(y, to_y, most=max(2, height // 24)) if frame else []
    left = (max(44, _longest(rows) + 14) + (18 if y.label else 0)) if frame else 0
    right = 16 if frame else 0
    inner = inner or width - left - right
    width = round(left + inner + right)
    to_x = _scale(x, [mark.x for mark in marks], 0, inner)
    columns = _ticks(x, to_x, most=min(6, max(2, int(inner // 60)))) if frame else []
    slant = _longest(columns) if x.ticks and _longest(columns) > inner / len(x.ticks) else 0
    legend, lines = _legend(marks, inner)
    top = (26 if title else 8) + ROW * max(lines, 1 if title else 0)
    bottom = 4 + (20 if columns else 0) + 0.7 * slant + (16 if x.label else 0)

    drawn = [_grid(rows, columns, inner, height)] if grid else []
    drawn += [_words(words, -7, place, anchor="end") for place, words in rows]
    turn = "rotate(-45 {:.1f} {})" if slant else ""
    for place, words in columns:
        at = {"anchor": "end", "transform": turn.format(place, height + 10)} if slant else {}
        drawn.append(_words(words, place, height + (10 if slant else 12), **at))
    drawn += [_words(x.label, inner / 2, height + bottom - 11)] if x.label else []
    middle = 14 - left, height / 2
    drawn += [_words(y.label, *middle, transform=f"rotate(-90 {middle[0]:.1f} {middle[1]})")] if y.label else []
    # An inner <svg> clips without an id, which would have to be unique on the page. Points at the edge stay whole.
    area = {"x": -4, "y": -4, "width": f"{inner + 8:.1f}", "height": height + 8}
    area["viewBox"] = " ".join(map(str, area.values()))
    drawn.append(svg("svg", *[mark.draw(to_x, to_y) for mark in marks], **area))
    heading = {"font_size": 13, "font_weight": "bold", "anchor": "start"}
    drawn += [_words(shortened(title, width // 7), 0, -14 - ROW * lines, **heading)] if title else []
    content = svg("g", *drawn, legend, transform=f"translate({left:.1f} {top})")
    size = f"0 0 {width} {top + height + bottom:.0f}"
    look = {"font_family": FONT, "font_size": 11.5, "fill": "currentColor", "style": f"width:{width}px"}
    return svg("svg", content, viewBox=size, role="img", aria_label=label, **look)


def save(charts: Sequence[str], path, *, columns: int = 2):
    """Write charts as one SVG file on white, side by side in `columns`, for slides and papers."""
    sizes = [tuple(map(float, re.match(r'<svg viewBox="0 0 (\S+) (\S+)"', one).groups())) for one in charts]
    cells, y = [], 0.0
    for i in range(0, len(charts), columns):
        x = 0.0
        for one, (width, height) in zip(charts[i : i + columns], sizes[i : i + columns], strict=True):
            cells.append(one.replace("<svg ", f'<svg x="{x}" y="{y}" width="{width}" height="{height}" ', 1))
            x += width
        y += max(height for _, height in sizes[i : i + columns])
    width = max(sum(width for width, _ in sizes[i : i + columns]) for i in range(0, len(charts), columns))
    page = svg("rect", width="100%", height="100%", fill="var(--paper)") + join(map(Html, cells))
    file = str(svg("svg", page, xmlns="http://www.w3.org/2000/svg", width=width, height=y, viewBox=f"0 0 {width} {y}"))
    for name, colour in ON_WHITE.items():
        file = file.replace(name, colour)
    Path(path).write_text(file, encoding="utf-8")


def width_of(words: str, size: float = 11.5) -> float:
    """Estimate the width of a text in pixels; the fonts of the reader are unknown."""
    return size * sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.56 for c in words)


def round_ticks(low: float, high: float, *, most: int, whole: bool = False) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten between `low` and `high`: about `most`, at least 2."""
    least = max((high - low) / most, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    ticks = [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return ticks if len(ticks) > 1 or whole else round_ticks(low, high, most=most + 1)


def log_ticks(low: float, high: float, *, most: int) -> list[float]:
    """Return the powers of ten between `low` and `high`, or round numbers if there are fewer than three powers."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [10.0**power for power in range(first, last + 1)]
    if len(powers) > 2:
        return powers[:: -(-len(powers) // most)]
    finer = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    finer = [value for value in finer if low <= value <= high]
    return finer if len(finer) > 1 else round_ticks(low, high, most=most)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Format ticks with as many decimals as they need, and large ones with k, M or G."""
    largest = max(map(abs, ticks), default=0)
    size, unit = next((pair for pair in UNITS if largest >= 10 * pair[0]), (1, ""))
    gaps = [abs(b - a) / size for a, b in zip(ticks, ticks[1:], strict=False)]
    decimals = max(0, -math.floor(math.log10(min(gaps)) + 1e-9)) if gaps else 3
    if decimals > 5 or largest >= 1e13 or not gaps:
        return [re.sub(r"e([+-])0", r"e\1", f"{tick:.6g}") for tick in ticks]
    return [f"{tick / size:.{decimals}f}{unit if tick else ''}" for tick in ticks]


def _scale(axis: Axis, data, start: float, end: float) -> Scale:
    """The Scale of an axis over these data."""
    data = [axis.limits] if axis.limits else data
    found = _forward(np.concatenate([np.zeros(0), *[np.ravel(np.asarray(part, float)) for part in data]]), axis.log)
    found = np.clip(found[np.isfinite(found)], -1e300, 1e300)
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    margin = 0.0 if axis.limits and low < high else 0.05 * (high - low) or 0.05 * abs(low) or 0.5
    return Scale(low - margin, high + margin, start, end, axis.log)


def _forward(data, log: bool) -> np.ndarray:
    """The data, or their logarithms; a number that has none becomes NaN."""
    data = np.asarray(data, float)
    return np.log10(np.where(data > 0, data, np.nan)) if log else data


def _ticks(axis: Axis, scale: Scale, *, most: int) -> list[tuple[float, str]]:
    """The place in pixels and the text of each tick."""
    if axis.ticks is None:
        if axis.log:
            places = log_ticks(10.0**scale.low, 10.0**scale.high, most=most)
            labels = [tick_texts([place])[0] for place in places]
        else:
            places = round_ticks(scale.low, scale.high, most=most, whole=axis.whole)
            labels = tick_texts(places)
    else:
        places, labels = [place for place, _ in axis.ticks], [words for _, words in axis.ticks]
    return [(float(scale(place)), words) for place, words in zip(places, labels, strict=True)]


def _longest(ticks) -> float:
    """The width of the longest text of some ticks."""
    return max((width_of(words) for _, words in ticks), default=0.0)


def _grid(rows, columns, width, height) -> Html:
    """The lines at the ticks, and the x axis."""
    path = "".join(f"M0 {place:.1f}H{width:.1f}" for place, _ in rows)
    path += "".join(f"M{place:.1f} 0V{height}" for place, _ in columns)
    axis = svg("path", d=f"M0 {height}H{width:.1f}", stroke="currentColor", stroke_opacity=0.6, fill="none")
    return svg("path", d=path, stroke="var(--line)", fill="none") + axis


def _words(words, x, y, *, anchor="middle", **attributes) -> Html:
    """A text whose vertical middle is at y."""
    at = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "dominant_baseline": "central"}
    return svg("text", words, **at, **attributes)


def _legend(marks, width) -> tuple[Html, int]:
    """The legend above the frame, and its number of lines."""
    lines, x, items = 0, math.inf, []
    for mark in marks:
        if not mark.name:
            continue
        words = shortened(mark.name, max(4, int((width - 30) / 6.5)))
        needed = 26 + width_of(words) + 12
        if x + needed > width + 12:
            lines, x = lines + 1, 0.0
        items.append((x, lines, mark.sample, words))
        x += needed
    drawn = [
        svg(
            "g",
            sample,
            _words(words, 25, 5, anchor="start"),
            transform=f"translate({x:.1f} {ROW * (line - lines) - 17})",
        )
        for x, line, sample, words in items
    ]
    return join(drawn), lines
