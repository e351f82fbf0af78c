"""Learning curves of several runs: one plot per metric and set, with a band over the seeds of each recipe."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.html.figure import COLOURS, inline_svg, new_plot, step_axis, style, value_axis
from research.report.curves import MAX_PLOTS, curves, points_of
from research.report.groups import Group


class Band(NamedTuple):
    """Mean, minimum and maximum over the seeds of a group, at the `steps` that all seeds recorded; gaps are NaN."""

    steps: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    most: np.ndarray


def bands(groups: Sequence[Group]) -> dict[tuple[str, str], dict[str, Band]]:
    """Return {(metric, set): {group name: Band}}, in the order of `curves`: loss first, learning rate last."""
    result: dict[tuple[str, str], dict[str, Band]] = {}
    order = list(curves([line for group in groups for run in group.runs for line in run.metrics]))
    for group in groups:
        runs = [curves(run.metrics) for run in group.runs]
        keys = dict.fromkeys((metric, name) for run in runs for metric, plot in run.items() for name in plot)
        for metric, set_name in keys:
            series = [run[metric][set_name] for run in runs if set_name in run.get(metric, {})]
            values = [dict(zip(one.steps, one.values, strict=True)) for one in series]
            steps = sorted(set.intersection(*map(set, values)))
            if steps:
                table = np.array([[one[step] for step in steps] for one in values])
                band = Band(np.array(steps), table.mean(0), table.min(0), table.max(0))
                result.setdefault((metric, set_name), {})[group.name] = band
    return dict(sorted(result.items(), key=lambda item: order.index(item[0][0])))


def overlaid(groups: Sequence[Group], labels: Mapping[str, str]) -> list[str]:
    """Draw the plots as SVG elements, with one colour per group, in order. `labels` are the groups' names in legends.

    Plots without a curve of two or more points are omitted. At most `MAX_PLOTS` plots are drawn.
    """
    colours = {group.name: COLOURS[i % len(COLOURS)] for i, group in enumerate(groups)}
    dashes = {group.name: ("-", "--", ":", "-.")[i // len(COLOURS) % 4] for i, group in enumerate(groups)}
    # A single evaluation is not a curve; the table has its value.
    selected = {
        key: plot
        for key, plot in bands(groups).items()
        if any(np.isfinite(band.mean).sum() > 1 for band in plot.values())
    }
    plots = []
    with style():
        for (metric, set_name), plot in list(selected.items())[:MAX_PLOTS]:
            longest = max(len(labels[name]) for name in plot)
            columns = 6 if longest < 4 else 2 if longest < 19 else 1
            figure, ax = new_plot(legend_rows=-(-len(plot) // columns))
            points = []
            for name, band in plot.items():
                few_points = np.isfinite(band.mean).sum() <= 12
                line_style = {"color": colours[name], "linestyle": dashes[name], "linewidth": 1.4, "markersize": 3}
                ax.plot(band.steps, band.mean, label=labels[name], marker="o" if few_points else None, **line_style)
                if (band.most > band.least).any():
                    ax.fill_between(band.steps, band.least, band.most, color=colours[name], alpha=0.22, linewidth=0)
                    if few_points:  # a band at a single point has no area
                        ax.vlines(band.steps, band.least, band.most, color=colours[name], alpha=0.5, linewidth=1.2)
                points += points_of(labels[name], band.steps.tolist(), band.mean.tolist())
            steps = np.concatenate([np.tile(band.steps, 2) for band in plot.values()])
            limits = np.concatenate([np.concatenate([band.least, band.most]) for band in plot.values()])
            value_axis(ax, metric, steps[np.isfinite(limits)], limits[np.isfinite(limits)])
            ax.set_title(f"{set_name} {metric}".replace("_", " "), pad=6 + 13 * -(-len(plot) // columns))
            ax.set_xlabel("step")
            step_axis(ax)
            ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=columns, borderpad=0.1, handlelength=1.4)
            label = f"{set_name} {metric} over the step: {', '.join(plot)}"
            plots.append(inline_svg(figure, label=label, values=points))
    return plots
