"""Learning curves: one plot a metric, with training and every evaluation set on it, over the step."""

from research.files import number
from research.html.figure import COLOURS, inline_svg, new_figure, step_axis, style, value_axis, write_png
from research.runs.reader import LAYERS, Series

MAX_PLOTS = 24
FIRST, LAST = ("loss", "accuracy"), ("learning_rate",)


def learning_curves(lines, path=None) -> list[str]:
    """The plots as SVG elements, loss first; all of them together go into the PNG at `path`.

    `lines` are those of metrics.jsonl, {"step": s, "train/loss": number or null, ...}. Without any number: [].
    """
    series = curves(lines)
    order = dict.fromkeys(of for plot in series.values() for of in plot)
    colours = {of: COLOURS[i % len(COLOURS)] for i, of in enumerate(sorted(order, key=lambda of: of != "train"))}
    shown = list(series)[:MAX_PLOTS]
    if not shown:
        return []
    plots = []
    with style():
        for metric in shown:
            figure, (ax,) = new_figure(4.4, 2.9)
            _plot(ax, metric, series[metric], colours)
            plots.append(inline_svg(figure, label=f"{metric} over the step: {', '.join(series[metric])}"))
        if path is not None:
            columns = min(2, len(shown))
            rows = -(-len(shown) // columns)
            figure, axes = new_figure(4.6 * columns, 3 * rows, rows=rows, columns=columns)
            for ax, metric in zip(axes, shown, strict=False):
                _plot(ax, metric, series[metric], colours)
            for ax in axes[len(shown) :]:
                ax.set_axis_off()
            write_png(figure, path)
    return plots


def curves(lines) -> dict[str, dict[str, Series]]:
    """{metric: {set: Series}} from the lines of metrics.jsonl: loss, accuracy, others by name, learning rate last.

    Training comes first in each, then the sets as they first came; what never was a number is left out.
    """
    found: dict[str, dict[str, Series]] = {}
    for line in sorted(lines, key=lambda line: line["step"]):
        for name, value in line.items():
            of, slash, metric = name.partition("/")
            if not slash or of == LAYERS:
                continue
            series = found.setdefault(metric, {}).setdefault(of, Series([], []))
            value = number(value)
            series.steps.append(line["step"])
            series.values.append(float("nan") if value is None else value)
    found = {
        metric: {of: plot[of] for of in sorted(plot, key=lambda of: of != "train")}
        for metric, plot in found.items()
        if any(value == value for series in plot.values() for value in series.values)
    }
    place = {name: i - len(FIRST) for i, name in enumerate(FIRST)} | {name: 1 for name in LAST}
    return {metric: found[metric] for metric in sorted(found, key=lambda metric: (place.get(metric, 0), metric))}


def _plot(ax, metric, plot, colours):
    values = [value for series in plot.values() for value in series.values if value == value]
    for of, series in plot.items():
        # A line needs two neighbours; few points, and evaluations, are shown as what they are.
        points = sum(value == value for value in series.values)
        marker = "o" if points <= (3 if of == "train" else 40) else None
        ax.plot(series.steps, series.values, color=colours[of], label=of, linewidth=1.4, marker=marker, markersize=3)
    value_axis(ax, metric, values)
    ax.set_title(metric.replace("_", " "), pad=20 if len(plot) > 1 or "train" not in plot else 6)
    ax.set_xlabel("step")
    step_axis(ax)
    if len(plot) > 1 or "train" not in plot:
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=4, borderpad=0.1, handlelength=1.4)
