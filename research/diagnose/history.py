"""What a run has recorded so far, as series over the step: what the rules of `during` and `after` read."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from research import events
from research.files import number
from research.runs.reader import Run, Series

FIGURES = ("seconds", "data_wait", "compiling")


class History(NamedTuple):
    """`metrics` {"train/loss" or "<evaluation>/<metric>": Series}; `timing` {figure: Series}, a point an interval
    without the first of each life, which compiles; `classes` {evaluation: how many examples of each class [C]};
    the steps of the whole run, None where they are not known; and the `trouble` that the run failed of, else "".
    """

    metrics: dict[str, Series]
    timing: dict[str, Series]
    classes: dict[str, np.ndarray]
    total: int | None
    trouble: str = ""

    def values(self, name: str) -> np.ndarray:
        """The finite values of a metric [n]; none where it was not recorded."""
        series = self.metrics.get(name)
        values = np.array(series.values if series else [], float)
        return values[np.isfinite(values)]

    def step(self) -> float:
        """The last step of which anything is known."""
        return max((series.steps[-1] for series in self.metrics.values() if series.steps), default=0)

    def evaluations(self, metric: str) -> dict[str, Series]:
        """{evaluation: Series} of the sets that have this metric, training and layers aside."""
        names = {name: name.partition("/") for name in self.metrics}
        return {of: self.metrics[name] for name, (of, _, rest) in names.items()
                if rest == metric and of not in ("train", "layers")}  # fmt: skip

    def layers(self, statistic: str) -> dict[str, Series]:
        """{layer: Series} of one of the statistics of `research.diagnose.layers`."""
        prefix = f"layers/{statistic}/"
        return {name.removeprefix(prefix): series for name, series in self.metrics.items() if name.startswith(prefix)}


def grow(metrics: dict[str, Series], step: int, values: Mapping[str, float | None]) -> None:
    """Adds a point to each series. Points of this step and of later ones are dropped: a restart takes steps again."""
    for name, value in values.items():
        series = metrics.setdefault(name, Series([], []))
        while series.steps and series.steps[-1] >= step:
            series.steps.pop(), series.values.pop()
        value = number(value)
        series.steps.append(step)
        series.values.append(float("nan") if value is None else value)


def recorded(run: Run) -> History:
    """The History that a run folder holds."""
    history = History({}, {}, {}, number(run.status.get("total")))
    for line in run.metrics:
        grow(history.metrics, line["step"], {name: x for name, x in line.items() if name != "step"})
    first = True
    for line in run.timing:
        if "event" in line:
            first = first or line["event"] == "started"
        elif not first:
            grow(history.timing, line["step"], {name: line[name] for name in FIGURES if name in line})
        else:
            first = False
    for name, found in run.evaluations.items():
        _classes(history, name, found.arrays)
    failed = run.status.get("status") == "failed"
    return history._replace(trouble=str(run.status.get("text") or "") if failed else "")


def follow(history: History, event, *, compiling: float, timed: bool) -> None:
    """Adds what an event of `research.events` tells: of an interval the figures too, if it is to be `timed`, and the
    seconds of `compiling` in it.
    """
    match event:
        case events.Interval():
            grow(history.metrics, event.step, {f"train/{name}": x for name, x in event.metrics.items()})
            if timed:
                grow(history.timing, event.step, {**event.timing, "compiling": compiling})
        case events.Evaluated():
            grow(history.metrics, event.step, {f"{event.name}/{name}": x for name, x in event.results.numbers.items()})
            _classes(history, event.name, event.results.arrays)


def middle(values: Iterable[float]) -> float:
    """The median."""
    return float(np.median(np.asarray(list(values))))


def _classes(history, name, arrays):
    """A confusion matrix tells how many examples there are of each class: the sums of its rows."""
    matrix = arrays.get("confusion")
    if matrix is not None and np.ndim(matrix) == 2:
        history.classes[name] = np.asarray(matrix, float).sum(1)
