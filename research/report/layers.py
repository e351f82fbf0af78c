"""Plots of the statistics of each layer over a run: gradients, weights, updates and activations."""

import re

from research.diagnose.history import recorded
from research.html import marks
from research.html.chart import Axis, chart
from research.html.markup import Html, element, section
from research.runs.reader import Run

# Statistics in the order of their plots: name, title, and whether the axis may be logarithmic.
PLOTS = (
    ("gradient", "gradient norm", True),
    ("weight", "weight norm", True),
    ("update", "update norm / weight norm", True),
    ("mean", "activations: mean", False),
    ("std", "activations: standard deviation", True),
    ("dead", "dead units (%)", False),
    ("saturated", "saturated values (%)", False),
)
DEPTH = ("#6250d8", "#c2559d", "#e07b00")  # the colours of the first, the middle and the last layer
NAMED = 8  # most layers named in a legend; with more layers than colours, the shade shows the depth


def layers(run: Run) -> Html:
    """Build the section "Layers" of the page of a run; empty if the run was not trained with --watch."""
    plots = [element("div", Html(plot), class_="plot") for plot in layer_plots(recorded(run))]
    if not plots:
        return Html()
    return section("Layers", element("div", *plots, class_="plots"))


def layer_plots(history) -> list[str]:
    """Plot each statistic of a `diagnose.history.History` as an SVG element, with one line per layer."""
    plots = [(title, log, history.layers(name)) for name, title, log in PLOTS if history.layers(name)]
    if not plots:
        return []
    names = sorted({layer for *_, series in plots for layer in series}, key=_natural)
    colours = dict(zip(names, _shades(len(names)), strict=True))
    return [_plot(title, log, series, colours) for title, log, series in plots]


def _plot(title, log, series, colours) -> str:
    scale = 100 if title.endswith("(%)") else 1
    order = [name for name in colours if name in series]
    step = max(1, -(-len(order) // NAMED))
    legend_names = {*order[::step], order[-1]}
    drawn = []
    for name in order:
        steps, values = series[name]
        # A norm of 0 has no logarithm. The line omits it; the diagnosis reports it.
        values = [scale * x if x > 0 or not log else float("nan") for x in values]
        shown = name if name in legend_names else ""
        drawn.append(marks.line(steps, values, colour=colours[name], name=shown, dots=True))
    positive = [x for name in order for x in series[name].values if x > 0]
    log = bool(log and positive and max(positive) > 5 * min(positive))
    y = Axis(limits=(-3, 103) if scale > 1 else None, log=log)
    label = f"{title} per layer over the step: {', '.join(series)}"
    return chart(drawn, label=label, title=title, x=Axis("step", whole=True), y=y)


def _shades(count: int) -> list:
    """Colours that are readable on white and black: distinct for few layers, otherwise shades by depth."""
    if count <= len(marks.COLOURS):
        return list(marks.COLOURS[:count])
    return [marks.blend(DEPTH, i / (count - 1)) for i in range(count)]


def _natural(name: str):
    """Sort key: layer 10 comes after layer 2, and names without a number, such as the head, come last."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)|/", name) if part]
