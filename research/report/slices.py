"""What an evaluation gives on each slice of its set, as a table with bars."""

from collections.abc import Mapping

import numpy as np

from research.html.markup import Html, element, format_number, join, table
from research.report.direction import better
from research.runs.reader import Evaluation

MOST = 60  # slices of one kind that are shown


def slice_tables(found: Evaluation) -> list[Html]:
    """A table for each way in which the set was sliced (see `metrics.slices.sliced`), of the metrics that are watched
    there, or of all; [] where it was not sliced. Bars are in proportion to the largest value of their column and begin
    at 0; the worst slice is marked. Of many slices the worst are shown.
    """
    made = []
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
        more = element("p", f"The worst {MOST} of {len(names)}.", class_="remark") if len(order) < len(names) else ""
        made.append(join([table([by, "examples", *columns], [*rows, total], numeric=("examples",)), more]))
    return made


def sliced_by(found: Evaluation) -> dict[str, list[str]]:
    """{by: names of its slices}."""
    ways = {name.removeprefix("slices/"): values for name, values in found.arrays.items() if name.count("/") == 1}
    return {by: [str(n) for n in values] for by, values in ways.items() if f"slices/{by}" in found.arrays}


def metrics_of(found: Evaluation, by: str) -> Mapping[str, np.ndarray]:
    """{metric: [S]}: those of which the worst slice is among the numbers, or all."""
    prefix = f"slices/{by}/"
    known = {name.removeprefix(prefix): v for name, v in found.arrays.items() if name.startswith(prefix)}
    known = {name: np.asarray(values, float) for name, values in known.items() if name != "count"}
    return {name: v for name, v in known.items() if f"{name}/worst_{by}" in found.numbers} or known


def worst_slice(values, metric: str) -> int | None:
    """The index of the worst slice; None where nobody can tell which direction is worse, or all are the same."""
    direction = better(metric)
    if direction is None or np.isnan(values).all() or np.nanmin(values) == np.nanmax(values):
        return None
    return int(np.nanargmin(values) if direction == "higher" else np.nanargmax(values))


def by_parts(found: Evaluation, by: str) -> bool:
    """Whether every example is in a slice, so that their counts add up to all."""
    of = found.rows.get(f"slice/{by}")
    return of is not None and bool(np.isin(of, np.arange(len(found.arrays[f"slices/{by}"]))).all())


def _bar(values, k, worst) -> Html:
    largest = np.nanmax(abs(values)) if np.isfinite(values).any() else 0
    share = abs(values[k]) / largest if largest and np.isfinite(values[k]) else 0
    # A border is printed where a background is not.
    bar = element("span", class_="bar", style=f"width:{100 * share:.1f}%")
    value, kind = format_number(values[k]), "measure worst" if worst else "measure"
    return element("div", element("span", value, class_="value"), element("span", bar, class_="track"), class_=kind)
