"""The drawings of the exploration page. Text is HTML where it can be, so that it stays readable on a phone."""

from collections.abc import Mapping

import numpy as np

from research.explore.columns import Frequencies, Groups, Histogram, Summary, described, format_value
from research.html import marks
from research.html.chart import Axis, chart, round_ticks, tick_texts
from research.html.marks import COLOURS, GREY, svg
from research.html.markup import Html, element, join, percent, png_uri, shortened, table

MOST_LISTED = 200  # columns
LONGEST = 18  # characters of a name in a figure
IN_CELLS = 10  # columns of a matrix with numbers in its cells
RGB = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS])
NO_AXIS = Axis(ticks=())


def legend(groups: Groups) -> Html:
    """Return the colours of the groups."""
    if len(groups.names) < 2:
        return Html()
    swatch = lambda colour: element("i", style=f"border-color:{colour}")
    names = zip(groups.names, COLOURS, strict=False)
    return element("p", *[element("span", swatch(c), shortened(n, 40)) for n, c in names], class_="legend")


def sparkline(found: Histogram | Frequencies | None) -> Html:
    """Return the distribution of a column as bars of the size of a word; "" without a value."""
    if found is None:
        return Html()
    counts = found.counts.sum(0)
    heights, width = 20 * counts / max(counts.max(), 1), 100 / len(counts)
    bar = lambda i: f"M{i * width:.1f} 20v{-max(heights[i], 0.6):.1f}h{width - 0.6:.1f}V20z"
    path = svg("path", d="".join(bar(i) for i in np.flatnonzero(heights)), fill="currentColor")
    return svg("svg", path, class_="spark", viewBox="0 0 100 20", preserveAspectRatio="none", aria_hidden="true")


def histogram(found: Histogram, *, label: str, kind: str) -> Html:
    """Draw a histogram: the number of rows in each bin, or the fraction of each group if there are several."""
    edges, several = found.edges, len(found.counts) > 1
    heights = found.counts / np.maximum(found.counts.sum(1, keepdims=True), 1) if several else found.counts
    if several:
        corners = [marks.stepped(edges, np.r_[0, row]) for row in heights]
        drawn = [marks.line(np.r_[x, x[-1]], np.r_[y, 0], colour=colour)
                 for (x, y), colour in zip(corners, COLOURS, strict=False)]  # fmt: skip
    else:
        names = [format_value(edge, kind) for edge in edges]
        texts = [f"{a} to {b}: {count:,}" for a, b, count in zip(names, names[1:], heights[0], strict=False)]
        drawn = [marks.bars(edges, heights[0], colour=COLOURS[0], texts=texts)]
    low, high = float(edges[0]), float(edges[-1])
    places = round_ticks(low, high, most=5, whole=kind == "integer")
    ticks = list(zip(places, tick_texts(places), strict=True)) if len(set(places)) == len(places) else ()
    if kind == "date":
        ticks = [(place, format_value(place, kind)) for place in edges[[len(edges) // 4, -1 - len(edges) // 4]]]
    x = Axis(limits=(low, high), ticks=ticks)
    return chart(drawn, label=label, x=x, y=Axis(limits=(0, 1.05 * max(heights.max(), 1e-9))), width=272, height=88)


def bars(found: Frequencies, rows: int) -> Html:
    """Return the most frequent values as bars of their fraction of all `rows`, each divided by group."""
    largest = max(found.counts.sum(0).max(), 1)
    share = lambda count: element("span", percent(count / max(rows, 1)), class_="share")
    lines = []
    for value, counts in zip(found.values, found.counts.T, strict=True):
        parts = [
            element("i", style=f"width:{100 * count / largest:.2f}%;border-color:{colour}")
            for count, colour in zip(counts, COLOURS, strict=False)
            if count
        ]
        name = shortened(" ".join(value.split()) or value, 40)
        lines += [element("span", name, class_="name"), element("span", *parts), share(counts.sum())]
    if found.beyond:
        share = f"{100 * found.beyond / max(rows, 1):.1f} %"
        lines += [
            element("span", "other values", class_="name faint"),
            element("span"),
            element("span", share, class_="share"),
        ]
    return element("div", *lines, class_="stack")


def missing_rows(names, fractions: np.ndarray, rows: int) -> Html:
    """Draw the fraction of missing values [columns, blocks]: a strip for each column, along the rows of the table."""
    count, shade = len(names), np.sqrt(fractions)  # a few missing values of a block remain visible
    strips = marks.image(_image(shade, np.full(shade.shape, 1)), x=(0, rows), y=(-0.5, count - 0.5))
    ticks = [(i, shortened(name, LONGEST)) for i, name in enumerate(names)]
    y = Axis(limits=(-0.5, count - 0.5), ticks=ticks, down=True)
    return chart([strips], label="missing values, a strip for each column", x=Axis("row", limits=(0, rows), whole=True),
                 y=y, height=20 * count, grid=False)  # fmt: skip


def heat_map(names, values: np.ndarray, *, label: str) -> Html:
    """Draw a matrix of associations, -1 (orange) to 1 (blue); few columns have numbers in the cells."""
    count = len(names)
    shade = np.abs(np.nan_to_num(values))
    found = [marks.image(_image(shade, (values < 0).astype(int)), x=(-0.5, count - 0.5), y=(-0.5, count - 0.5))]
    hover = [(j, i, f"{names[i]}, {names[j]}: {values[i, j]:.3f}") for i, j in np.ndindex(count, count)]
    if count <= IN_CELLS:
        found += [
            marks.label(j, i, f"{values[i, j]:.2f}".replace("0.", "."), size=10)
            for i, j in np.argwhere(np.isfinite(values))
            if i != j
        ]
    ticks = [(i, shortened(name, LONGEST)) for i, name in enumerate(names)]
    axis = Axis(limits=(-0.5, count - 0.5), ticks=ticks)
    side = min(max(34 * count, 100), 280)
    return chart([*found, marks.values(hover)], label=label, x=axis, y=axis._replace(down=True), inner=side,
                 height=side, grid=False)  # fmt: skip


def scatter(points: np.ndarray, group: np.ndarray, *, names: tuple[str, str], label: str) -> Html:
    """Draw points [n, 2] in the colours of their groups [n]; rows without a group (-1) are grey."""
    drawn = [
        marks.points(*points[group == number].T, colour=colour, opacity=0.6)
        for number, colour in zip(range(-1, len(COLOURS)), (GREY, *COLOURS), strict=True)
        if (group == number).any()
    ]
    x, y = (axis._replace(label=name) for axis, name in zip((NO_AXIS, NO_AXIS), names, strict=True))
    return chart(drawn, label=label, x=x, y=y, height=300, grid=False)


def share_bar(share: float, words: str) -> Html:
    """Return a fraction as a bar, after its value as text."""
    inner = element("span", class_="bar", style=f"width:{100 * min(max(share, 0), 1):.1f}%")
    return element(
        "div", element("span", words, class_="value"), element("span", inner, class_="track"), class_="measure"
    )


def column_table(summaries: Mapping[str, Summary], *, target: str | None) -> Html:
    """Return a table of the first MOST_LISTED columns."""
    rows = []
    for name, one in list(summaries.items())[:MOST_LISTED]:
        mark = element("span", "target", class_="badge") if name == target else ""
        absent = (one.missing + one.infinite) / one.rows
        share = share_bar(absent, percent(absent)) if absent else "0"
        column = join([element("b", shortened(name, 120)), " ", mark])
        extent = element("span", shortened(described(one), 60), class_="whole")
        spark = sparkline(one.distribution) if one.kind not in ("text", "identifier") else ""
        rows.append([column, one.kind, spark, f"{one.distinct:,}", share, extent])
    head = ["column", "kind", "values", "distinct", "missing", "range or values"]
    more = len(summaries) - len(rows)
    remark = element("p", f"{more:,} more columns are not listed.", class_="remark") if more else ""
    return join([table(head, rows, numeric=("distinct",)), remark])


def grid(plots, kind: str = "plots") -> Html:
    """Return plots side by side."""
    return element("div", *[element("div", plot, class_="plot") for plot in plots], class_=kind) if plots else Html()


def titled(title: str, remark: str, *content) -> Html:
    """Return a plot below its title and a remark."""
    return join([element("h3", title), element("p", remark, class_="remark") if remark else "", *content])


def _image(shade: np.ndarray, colour: np.ndarray) -> str:
    """Return an image [h, w] as a data URI: COLOURS[colour], with the opacity `shade`."""
    opacity = np.clip(255 * shade, 0, 255)[..., None]
    return png_uri(np.concatenate([RGB[colour], opacity], -1).astype(np.uint8))
