"""Tables of the metrics of each slice of an evaluation set, with bars."""

from collections.abc import Mapping

import numpy as np

from research.html.markup import Html, element, format_number, join, table
from research.report.direction import better
from research.runs.reader import Evaluation

MOST = 60  # most slices in a table


def slice_tables(found: Evaluation) -> list[Html]:
    """Render one table per slicing of the evaluation set (see `metrics.slices.sliced`); [] if it was not sliced.

    The columns are the metrics returned by `metrics_of`. Bars start at 0 and are relative to the largest value of their
    column. The worst slice is highlighted. With more than `MOST` slices, only the worst are shown.
    """
    tables = []
    for by, names in sliced_by(found).items():
        columns = metrics_of(found, by)
        count = np.asarray(found.arrays.get(f"slices/{by}/count", np.full(len(names), np.nan)), float)
        order = np.arange(len(names))
        if len(names) > MOST and columns:
            first = next(iter(columns))
            sign = -1 if better(first) == "lower" else 1
            order = np.argsort(sign * np.nan_to_num(columns[first], nan=np.inf * sign), kind="stable")[:MOST]
        worst = {metric: worst_slice(values, metric) for metric, values in columns.items()}
        rows = [
            [element("b", names[k]), f"{count[k]:.0f}" if np.isfinite(count[k]) else "–",
             *[_bar(values, k, k == worst[metric]) for metric, values in columns.items()]]
            for k in order
        ]  # fmt: skip
        total = ["all", f"{np.nansum(count):.0f}" if by_parts(found, by) else "",
                 *[_bar(np.r_[values, found.numbers.get(metric) or np.nan], len(values), False)
                   for metric, values in columns.items()]]  # fmt: skip
        remark = element("p", f"Worst {MOST} of {len(names)}.", class_="remark") if len(order) < len(names) else ""
        tables.append(join([table([by, "examples", *columns], [*rows, total], numeric=("examples",)), remark]))
    return tables


def sliced_by(found: Evaluation) -> dict[str, list[str]]:
    """Return {slicing: names of its slices}."""
    slicings = {name.removeprefix("slices/"): values for name, values in found.arrays.items() if name.count("/") == 1}
    return {by: [str(n) for n in values] for by, values in slicings.items() if f"slices/{by}" in found.arrays}


def metrics_of(found: Evaluation, by: str) -> Mapping[str, np.ndarray]:
    """Return {metric: [S]} for metrics whose worst slice is reported as a number, or for all if there are none."""
    prefix = f"slices/{by}/"
    metrics = {name.removeprefix(prefix): v for name, v in found.arrays.items() if name.startswith(prefix)}
    metrics = {name: np.asarray(values, float) for name, values in metrics.items() if name != "count"}
    return {name: v for name, v in metrics.items() if f"{name}/worst_{by}" in found.numbers} or metrics


def worst_slice(values, metric: str) -> int | None:
    """Return the index of the worst slice; None if the better direction is unknown or all slices are equal."""
    direction = better(metric)
    if direction is None or np.isnan(values).all() or np.nanmin(values) == np.nanmax(values):
        return None
    return int(np.nanargmin(values) if direction == "higher" else np.nanargmax(values))


def by_parts(found: Evaluation, by: str) -> bool:
    """Return whether every example belongs to a slice, so that the slice counts add up to the total."""
    slice_of_row = found.rows.get(f"slice/{by}")
    return slice_of_row is not None and bool(np.isin(slice_of_row, np.arange(len(found.arrays[f"slices/{by}"]))).all())


def _bar(values, k, worst) -> Html:
    largest = np.nanmax(abs(values)) if np.isfinite(values).any() else 0
    fraction = abs(values[k]) / largest if largest and np.isfinite(values[k]) else 0
    # Browsers print borders but not backgrounds.
    bar = element("span", class_="bar", style=f"width:{100 * fraction:.1f}%")
    value, kind = format_number(values[k]), "measure worst" if worst else "measure"
    return element("div", element("span", value, class_="value"), element("span", bar, class_="track"), class_=kind)
