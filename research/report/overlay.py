"""Learning curves of several runs: one plot per metric and set, with a band over the seeds of each recipe."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.html import marks
from research.html.chart import chart
from research.report.curves import MAX_PLOTS, STEP, curves, points_of, value_axis
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
    looks = {group.name: marks.look(i) for i, group in enumerate(groups)}
    # A single evaluation is not a curve; the table has its value.
    selected = {
        key: plot
        for key, plot in bands(groups).items()
        if any(np.isfinite(band.mean).sum() > 1 for band in plot.values())
    }
    return [_plot(*key, plot, labels, looks) for key, plot in list(selected.items())[:MAX_PLOTS]]


def _plot(metric, set_name, plot, labels, looks) -> str:
    drawn, points = [], []
    for name, found in plot.items():
        colour, few_points = looks[name]["colour"], np.isfinite(found.mean).sum() <= 12
        if (found.most > found.least).any():
            drawn.append(marks.band(found.steps, found.least, found.most, colour=colour))
            if few_points:  # a band at a single point has no area
                drawn.append(marks.intervals(found.steps, found.least, found.most, colour=colour))
        drawn.append(marks.line(found.steps, found.mean, name=labels[name], dots=few_points, **looks[name]))
        points += points_of(labels[name], found.steps.tolist(), found.mean.tolist())
    steps = np.concatenate([np.tile(found.steps, 2) for found in plot.values()])
    limits = np.concatenate([np.concatenate([found.least, found.most]) for found in plot.values()])
    y = value_axis(metric, steps[np.isfinite(limits)], limits[np.isfinite(limits)])
    label, title = f"{set_name} {metric} over the step: {', '.join(plot)}", f"{set_name} {metric}".replace("_", " ")
    return chart([*drawn, marks.values(points)], label=label, title=title, x=STEP, y=y)
