"""Learning curves of several runs in one plot a metric and set, with a band over the seeds of a recipe."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.html.figure import COLOURS, inline_svg, new_figure, step_axis, style, value_axis
from research.report.curves import MAX_PLOTS, curves
from research.report.groups import Group


class Band(NamedTuple):
    """Over the seeds of a group at each of `steps` that all of them recorded: mean, least and most; NaN are gaps."""

    steps: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    most: np.ndarray


def bands(groups: Sequence[Group]) -> dict[tuple[str, str], dict[str, Band]]:
    """{(metric, set): {name of the group: Band}}, in the order of `curves`: loss first, learning rate last."""
    found: dict[tuple[str, str], dict[str, Band]] = {}
    order = list(curves([line for group in groups for run in group.runs for line in run.metrics]))
    for group in groups:
        runs = [curves(run.metrics) for run in group.runs]
        for metric, of in dict.fromkeys((metric, of) for run in runs for metric, plot in run.items() for of in plot):
            series = [run[metric][of] for run in runs if of in run.get(metric, {})]
            values = [dict(zip(one.steps, one.values, strict=True)) for one in series]
            steps = sorted(set.intersection(*map(set, values)))
            if steps:
                table = np.array([[one[step] for step in steps] for one in values])
                band = Band(np.array(steps), table.mean(0), table.min(0), table.max(0))
                found.setdefault((metric, of), {})[group.name] = band
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def overlaid(groups: Sequence[Group]) -> list[str]:
    """The plots as SVG elements; the first colour is the first group's. Without two points of anything: []."""
    colours = {group.name: COLOURS[i % len(COLOURS)] for i, group in enumerate(groups)}
    dashes = {group.name: ("-", "--", ":", "-.")[i // len(COLOURS) % 4] for i, group in enumerate(groups)}
    # A single evaluation is no curve, and stands in the table.
    shown = {
        key: plot
        for key, plot in bands(groups).items()
        if any(np.isfinite(band.mean).sum() > 1 for band in plot.values())
    }
    plots = []
    with style():
        for (metric, of), plot in list(shown.items())[:MAX_PLOTS]:
            figure, (ax,) = new_figure(4.4, 2.9)
            for name, band in plot.items():
                few = np.isfinite(band.mean).sum() <= 12
                look = {"color": colours[name], "linestyle": dashes[name], "linewidth": 1.4, "markersize": 3}
                ax.plot(band.steps, band.mean, label=name, marker="o" if few else None, **look)
                if (band.most > band.least).any():
                    ax.fill_between(band.steps, band.least, band.most, color=colours[name], alpha=0.22, linewidth=0)
                    if few:  # a band of one point has no area
                        ax.vlines(band.steps, band.least, band.most, color=colours[name], alpha=0.5, linewidth=1.2)
            drawn = np.concatenate([np.concatenate([band.least, band.most]) for band in plot.values()])
            value_axis(ax, metric, drawn[np.isfinite(drawn)])
            ax.set_title(f"{of} {metric}".replace("_", " "), pad=20)
            ax.set_xlabel("step")
            step_axis(ax)
            ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=6, borderpad=0.1, handlelength=1.4)
            plots.append(inline_svg(figure, label=f"{of} {metric} over the step: {', '.join(plot)}"))
    return plots
