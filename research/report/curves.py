"""Learning curves: one plot per metric, with training and every evaluation set over the step."""

import csv
import io

import numpy as np

from research.files import number
from research.html import marks
from research.html.chart import Axis, chart, save
from research.html.markup import format_number
from research.runs.reader import LAYERS, Series

STEP = Axis("step", whole=True)
MAX_PLOTS = 24
MAX_VALUES = 100  # points of a curve with a value under the pointer
FIRST, LAST = ("loss", "accuracy"), ("learning_rate",)


def learning_curves(lines, path=None) -> list[str]:
    """Draw the learning curves as SVG elements, loss first, and optionally all of them in one SVG file at `path`.

    `lines` are the records of metrics.jsonl, {"step": s, "train/loss": number or null, ...}. Returns [] if they hold no
    number. At most `MAX_PLOTS` metrics are drawn.
    """
    series = curves(lines)
    order = dict.fromkeys(key for plot in series.values() for key in plot)
    looks = {key: marks.look(i) for i, key in enumerate(sorted(order, key=lambda key: key != "train"))}
    metrics = list(series)[:MAX_PLOTS]
    if not metrics:
        return []
    plots = [_plot(metric, series[metric], looks) for metric in metrics]
    if path is not None:
        save(plots, path)
    return plots


def curves(lines) -> dict[str, dict[str, Series]]:
    """Group the records of metrics.jsonl as {metric: {set: Series}}.

    Metrics are in the order loss, accuracy, then by name, with the learning rate last. In each metric, training comes
    first, then the sets in order of first appearance. Metrics that never had a numeric value are omitted. A missing
    value is NaN.
    """
    found: dict[str, dict[str, Series]] = {}
    for line in sorted(lines, key=lambda line: line["step"]):
        for name, value in line.items():
            set_name, slash, metric = name.partition("/")
            if not slash or set_name == LAYERS:
                continue
            series = found.setdefault(metric, {}).setdefault(set_name, Series([], []))
            value = number(value)
            series.steps.append(line["step"])
            series.values.append(float("nan") if value is None else value)
    found = {
        metric: {set_name: plot[set_name] for set_name in sorted(plot, key=lambda set_name: set_name != "train")}
        for metric, plot in found.items()
        if any(value == value for series in plot.values() for value in series.values)
    }
    rank = {name: i - len(FIRST) for i, name in enumerate(FIRST)} | {name: 1 for name in LAST}
    return {metric: found[metric] for metric in sorted(found, key=lambda metric: (rank.get(metric, 0), metric))}


def as_csv(lines) -> str:
    """Format the records of metrics.jsonl as a CSV table with one row per step and one column per metric."""
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    rows: dict[int, dict] = {}
    for line in lines:
        rows.setdefault(line["step"], {}).update(line)
    output = io.StringIO()
    table = csv.DictWriter(output, ["step", *names], lineterminator="\n")
    table.writeheader()
    table.writerows(rows[step] for step in sorted(rows))
    return output.getvalue()


def points_of(name, steps, values) -> list[tuple[float, float, str]]:
    """Return the points of a curve with their texts for the pointer: at most `MAX_VALUES`, the last one included."""
    every = -(-len(steps) // MAX_VALUES)
    pairs = list(zip(steps, values, strict=True))[::-1][::every]
    return [(x, y, f"{name}, step {x}: {format_number(y)}") for x, y in pairs if y == y]


def value_axis(metric: str, steps, values) -> Axis:
    """Return a y axis on which differences late in a run are visible. `steps` and `values` are of all finite points.

    A loss that spans a factor of more than 30 gets a logarithmic axis. Otherwise, if the values after the first tenth
    of the steps span less than half of the range, the axis shows that span; earlier values may be off the axis.
    """
    steps, values = np.asarray(steps), np.asarray(values)
    if "loss" in metric and min(values) > 0 and max(values) > 30 * min(values):
        return Axis(log=True)
    settled = values[steps > steps.max() / 10] if steps.size else values
    if len(settled) > 1 and 0 < np.ptp(settled) < 0.5 * np.ptp(values):
        margin = 0.05 * np.ptp(settled)
        return Axis(limits=(settled.min() - margin, settled.max() + margin))
    return Axis()


def _plot(metric, plot, looks) -> str:
    drawn, points = [], []
    for key, series in plot.items():
        # A line needs two points. Mark the points of evaluations and of short training curves.
        dots = sum(value == value for value in series.values) <= (3 if key == "train" else 40)
        name = key if len(plot) > 1 or key != "train" else ""
        drawn.append(marks.line(series.steps, series.values, **looks[key], name=name, dots=dots))
        points += points_of(key, series.steps, series.values)
    finite = [(x, y) for one in plot.values() for x, y in zip(one.steps, one.values, strict=True) if y == y]
    label, y = f"{metric} over the step: {', '.join(plot)}", value_axis(metric, *zip(*finite, strict=True))
    return chart([*drawn, marks.values(points)], label=label, title=metric.replace("_", " "), x=STEP, y=y)
