"""The marks of a chart: lines, bands, intervals, bars, points, rules, text, cells and images, and values on hover.

Each function returns a Mark for `research.html.chart.chart`. A Mark converts its data to pixels when it is drawn. To
add a mark, copy `intervals`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from research.html.markup import Html, element, join

COLOURS = ("#2a7fc9", "#e07b00", "#1f9d6b", "#c2559d", "#8a6fd1", "#8c8c1f")  # legible on white and on black
DASHES = ("", "5 3", "1.5 2.5", "6 2 1.5 2")
GREY = "#9a9a9a"
DENSE = 2000  # a line with more points is thinned to the extremes of each pixel

# Relative paths around a point.
SHAPES = {
    "dot": "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",
    "diamond": "m-3 0l3-3l3 3l-3 3z",
    "triangle": "m-4 3.5l4-7l4 7z",
    "bar": "m0-5v10",
    "cross": "m-4-4l8 8m0-8l-8 8",
}


class Mark(NamedTuple):
    """An element of a chart.

    The axes show the data `x` and `y`. `draw(x, y)` receives the Scale of both axes, which convert data to pixels, and
    returns SVG. A mark with a `name` has an entry in the legend, with `sample` as its symbol, which is SVG in a box of
    20 x 10 pixels.
    """

    x: Sequence[float]
    y: Sequence[float]
    draw: Callable[[Callable, Callable], Html]
    name: str = ""
    sample: Html = Html()


def look(number: int) -> dict[str, str]:
    """Return the colour and the dash array of the curve with this number; the first 24 curves differ."""
    return {"colour": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}


def line(
    x, y, *, colour: str = COLOURS[0], name: str = "", width: float = 1.6, dash: str = "", opacity: float = 1.0,
    dots: bool = False,
) -> Mark:  # fmt: skip
    """Return a line through points [N]. It has a gap at each value that is not finite. `dash` is an SVG dash array."""
    style = {"stroke": colour, "stroke_width": width, "fill": "none", "stroke_linejoin": "round"}
    style |= {"stroke_dasharray": dash} if dash else {}
    style |= {"stroke_opacity": opacity} if opacity < 1 else {}

    def draw(to_x, to_y):
        places = to_x(x), to_y(y)
        drawn = svg("path", d=_path(*thinned(*places)), **style)
        return drawn + _shapes(*places, shape="dot", colour=colour) if dots else drawn

    dot = _shapes([10.0], [5.0], shape="dot", colour=colour) if dots else ""
    return Mark(x, y, draw, name, svg("path", d="M0 5H20", **style) + dot)


def points(x, y, *, colour: str = COLOURS[0], name: str = "", shape: str = "dot", opacity: float = 1.0) -> Mark:
    """Return separate points [N] with one of the `SHAPES`."""
    style = {"shape": shape, "colour": colour, "opacity": opacity}
    return Mark(x, y, lambda to_x, to_y: _shapes(to_x(x), to_y(y), **style), name, _shapes([10.0], [5.0], **style))


def band(x, low, high, *, colour: str = COLOURS[0]) -> Mark:
    """Return the area between two lines [N], with a gap at each value that is not finite."""

    def draw(to_x, to_y):
        places = np.stack([to_x(x), to_y(low), to_y(high)])
        areas = []
        for part in np.split(places, np.flatnonzero(~np.isfinite(places).all(0)), axis=1):
            part = part[:, np.isfinite(part).all(0)]
            border = _path(np.r_[part[0], part[0][::-1]], np.r_[part[1], part[2][::-1]])
            areas += [border + "Z"] if part.shape[1] > 1 else []
        return svg("path", d="".join(areas), fill=colour, fill_opacity=0.22)

    return Mark(np.tile(x, 2), np.concatenate([low, high]), draw)


def intervals(x, low, high, *, colour: str = COLOURS[0]) -> Mark:
    """Return a vertical line from `low` to `high` at each x [N]."""

    def draw(to_x, to_y):
        ends = [to_x(x), to_y(low), to_y(high)]
        path = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(*ends, strict=True) if np.isfinite(a + b + c))
        return svg("path", d=path, stroke=colour, stroke_width=1.2, stroke_opacity=0.6, fill="none")

    return Mark(np.tile(x, 2), np.concatenate([low, high]), draw)


def bars(edges, heights, *, colour: str = GREY, name: str = "", texts: Sequence[str] = ()) -> Mark:
    """Return bars from 0 to `heights` [N] between `edges` [N + 1]. `texts` [N] appear on hover."""
    heights = np.nan_to_num(np.asarray(heights, float))
    style = {"fill": colour, "fill_opacity": 0.45}

    def draw(to_x, to_y):
        x, y, base = to_x(edges), to_y(heights), float(to_y(0.0))
        parts = [
            svg("rect", *titled(words), x=_px(min(a, b)), y=_px(min(top, base)), width=_px(max(abs(b - a) - 1, 0.5)),
                height=_px(abs(base - top)), **style)
            for a, b, top, words in zip(x[:-1], x[1:], y, texts or [""] * len(heights), strict=True)
        ]  # fmt: skip
        return join(parts)

    sample = svg("rect", x=3, y=0, width=14, height=10, **style)
    return Mark(edges, np.append(heights, 0.0), draw, name, sample)


def rule(x: float, *, colour: str = COLOURS[0], name: str = "", dash: str = "") -> Mark:
    """Return a vertical line over the whole height of the chart."""
    style = {"stroke": colour, "stroke_width": 1.4, "stroke_dasharray": dash or "none"}

    def draw(to_x, to_y):
        return svg("path", d=f"M{float(to_x(x)):.1f} {to_y.start:.1f}V{to_y.end:.1f}", **style)

    return Mark([x], [], draw, name, svg("path", d="M10 0V10", **style))


def label(x: float, y: float, words, *, anchor: str = "middle", size: float = 11, bold: bool = False) -> Mark:
    """Return text at a point, with an outline in the colour of the page so that it is legible over lines."""
    style = {"text_anchor": anchor, "font_size": size, "dominant_baseline": "central", "paint_order": "stroke"}
    style |= {"stroke": "var(--paper)", "stroke_width": 4, "font_weight": "bold" if bold else "normal"}
    draw = lambda to_x, to_y: svg("text", words, x=_px(to_x(x)), y=_px(to_y(y)), **style)
    return Mark([x], [y], draw)


def cells(shares, *, words, titles) -> Mark:
    """Return a heat map of shares [R, C] between 0 and 1: the opacity of each cell. Row 0 is at y = 0.

    `words` [R][C] are written in the cells, and `titles` [R][C] appear on hover.
    """
    shares = np.asarray(shares, float)
    rows, columns = shares.shape

    def draw(to_x, to_y):
        x, y = np.sort(to_x(np.arange(columns + 1) - 0.5)), to_y(np.arange(rows + 1) - 0.5)
        parts = []
        for i, j in np.ndindex(rows, columns):
            left, top = x[j] + 0.5, min(y[i], y[i + 1]) + 0.5
            box = {"x": _px(left), "y": _px(top), "width": _px(x[j + 1] - x[j] - 1),
                   "height": _px(abs(y[i + 1] - y[i]) - 1)}  # fmt: skip
            middle = {"x": _px((x[j] + x[j + 1]) / 2), "y": _px((y[i] + y[i + 1]) / 2)}
            parts.append(svg("rect", **box, fill="var(--soft)"))
            parts.append(svg("rect", *titled(titles[i][j]), **box, fill=COLOURS[0], fill_opacity=f"{shares[i, j]:.3f}"))
            if words[i][j]:
                centred = {"text_anchor": "middle", "dominant_baseline": "central", "pointer_events": "none"}
                parts.append(svg("text", words[i][j], **middle, font_size=11, **centred))
        return join(parts)

    return Mark([-0.5, columns - 0.5], [-0.5, rows - 0.5], draw)


def image(uri: str, *, x: tuple[float, float], y: tuple[float, float]) -> Mark:
    """Return an image, given as a data URI, that covers the area from x[0], y[0] (its top left) to x[1], y[1]."""

    def draw(to_x, to_y):
        (left, right), (top, bottom) = to_x(x), to_y(y)
        box = {"x": _px(left), "y": _px(top), "width": _px(right - left), "height": _px(bottom - top)}
        return svg("image", href=uri, **box, preserveAspectRatio="none", style="image-rendering: pixelated")

    return Mark(x, y, draw)


def values(found: Sequence[tuple[float, float, str]]) -> Mark:
    """Return invisible points (x, y, text) whose text appears on hover; browsers show it without a script."""
    x, y = [x for x, *_ in found], [y for _, y, _ in found]

    def draw(to_x, to_y):
        low, high = sorted((to_y.start, to_y.end))
        places = zip(to_x(x), to_y(y), found, strict=True)
        parts = [
            svg("circle", *titled(words), cx=_px(a), cy=_px(b), r=5)
            for a, b, (*_, words) in places
            if low - 1 <= b <= high + 1 and to_x.start - 1 <= a <= to_x.end + 1
        ]
        return svg("g", *parts, class_="values", fill="transparent")

    return Mark([], [], draw)


def stepped(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the step function that has the value y[i] between x[i - 1] and x[i]."""
    return np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]


def blend(colours: Sequence[str], share: float) -> str:
    """Return the colour at `share` (0 to 1) of the way along a sequence of colours "#rrggbb"."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours])
    place = np.linspace(0, 1, len(stops))
    return "#" + "".join(f"{round(float(np.interp(share, place, channel))):02x}" for channel in stops.T)


def thinned(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first and last, lowest and highest point of each pixel column if a line has more than `DENSE` points.

    The result looks the same. x must be sorted; a point that is not finite is kept, because it is a gap.
    """
    if len(x) <= DENSE or not np.isfinite(x).all():
        return x, y
    column = np.floor(x)
    first = np.flatnonzero(np.r_[True, np.diff(column) != 0])
    kept = [first, np.r_[first[1:] - 1, len(x) - 1], np.flatnonzero(~np.isfinite(y))]
    for key in (np.where(np.isfinite(y), y, np.inf), np.where(np.isfinite(y), -y, np.inf)):
        order = np.lexsort((key, column))
        kept.append(order[np.r_[True, np.diff(column[order]) != 0]])
    kept = np.unique(np.concatenate(kept))
    return x[kept], y[kept]


def svg(name: str, *content, **attributes) -> Html:
    """Return an SVG element. An underscore in an attribute is written as a hyphen: `stroke_width=2`."""
    return element(name, *content, **{key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})


def titled(words: str) -> list[Html]:
    """Return the <title> that appears on hover, as a list that is empty without words."""
    return [svg("title", words)] if words else []


def _path(x, y) -> str:
    """An SVG path through points in pixels, with a gap at each point that is not finite."""
    places = np.stack([x, y])
    places = np.where(np.isfinite(places).all(0), np.clip(places, -1e5, 1e5), np.nan)
    pen, parts = "M", []
    for a, b in places.T.tolist():
        parts += [] if a != a else [f"{pen}{a:.1f} {b:.1f}"]
        pen = "M" if a != a else "L"
    return "".join(parts)


def _shapes(x, y, *, shape, colour, opacity=1.0) -> Html:
    """One path with the same shape at every finite point."""
    places = [(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(a) and np.isfinite(b)]
    path = "".join(f"M{a:.1f} {b:.1f}{SHAPES[shape]}" for a, b in places)
    return svg("path", d=path, fill=colour, stroke=colour, opacity=opacity) if path else Html()


def _px(value) -> str:
    return f"{float(value):.1f}"
