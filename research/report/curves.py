"""Learning curves: one plot per metric, with training and every evaluation set over the step."""

import csv
import io

from research.files import number
from research.html.figure import COLOURS, inline_svg, new_figure, new_plot, step_axis, style, value_axis, write_png
from research.html.markup import format_number
from research.runs.reader import LAYERS, Series

MAX_PLOTS = 24
MAX_VALUES = 100  # points of a curve with a value under the pointer
FIRST, LAST = ("loss", "accuracy"), ("learning_rate",)


def learning_curves(lines, path=None) -> list[str]:
    """Draw the learning curves as SVG elements, loss first, and optionally all of them in one PNG at `path`.

    `lines` are the records of metrics.jsonl, {"step": s, "train/loss": number or null, ...}. Returns [] if they hold no
    number. At most `MAX_PLOTS` metrics are drawn.
    """
    series = curves(lines)
    order = dict.fromkeys(key for plot in series.values() for key in plot)
    colours = {key: COLOURS[i % len(COLOURS)] for i, key in enumerate(sorted(order, key=lambda key: key != "train"))}
    metrics = list(series)[:MAX_PLOTS]
    if not metrics:
        return []
    plots = []
    with style():
        for metric in metrics:
            figure, ax = new_plot()
            _plot(ax, metric, series[metric], colours)
            label = f"{metric} over the step: {', '.join(series[metric])}"
            points = [point for name, one in series[metric].items() for point in points_of(name, one.steps, one.values)]
            plots.append(inline_svg(figure, label=label, values=points))
        if path is not None:
            columns = min(2, len(metrics))
            rows = -(-len(metrics) // columns)
            figure, axes = new_figure(4.6 * columns, 3 * rows, rows=rows, columns=columns)
            for ax, metric in zip(axes, metrics, strict=False):
                _plot(ax, metric, series[metric], colours)
            for ax in axes[len(metrics) :]:
                ax.set_axis_off()
            write_png(figure, path)
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


def _plot(ax, metric, plot, colours):
    for key, series in plot.items():
        # A line needs two points. Mark the points of evaluations and of short training curves.
        points = sum(value == value for value in series.values)
        marker = "o" if points <= (3 if key == "train" else 40) else None
        ax.plot(series.steps, series.values, color=colours[key], label=key, linewidth=1.4, marker=marker, markersize=3)
    drawn = [(x, y) for one in plot.values() for x, y in zip(one.steps, one.values, strict=True) if y == y]
    value_axis(ax, metric, *zip(*drawn, strict=True))
    ax.set_title(metric.replace("_", " "), pad=20 if len(plot) > 1 or "train" not in plot else 6)
    ax.set_xlabel("step")
    step_axis(ax)
    if len(plot) > 1 or "train" not in plot:
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=4, borderpad=0.1, handlelength=1.4)
