"""The records of a run as series over steps, the input of the rules in `during` and `after`."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from research import events
from research.files import number
from research.runs.reader import Run, Series

FIGURES = ("seconds", "data_wait", "compiling")


class History(NamedTuple):
    """The records of a run so far.

    `metrics`: {"train/loss" or "<evaluation>/<metric>": Series}. `timing`: {name: Series}, one point per interval
    except the first of each process, which compiles. `classes`: {evaluation: examples per class [C]}. `total`: the
    steps of the complete run, None if unknown. `trouble`: the error of a failed run, otherwise "".
    """

    metrics: dict[str, Series]
    timing: dict[str, Series]
    classes: dict[str, np.ndarray]
    total: int | None
    trouble: str = ""

    def values(self, name: str) -> np.ndarray:
        """Return the finite values of a metric [n]; empty if it was not recorded."""
        series = self.metrics.get(name)
        values = np.array(series.values if series else [], float)
        return values[np.isfinite(values)]

    def step(self) -> float:
        """Return the last step with a record."""
        return max((series.steps[-1] for series in self.metrics.values() if series.steps), default=0)

    def evaluations(self, metric: str) -> dict[str, Series]:
        """Return {evaluation: Series} of a metric, without training and the layer statistics."""
        names = {name: name.partition("/") for name in self.metrics}
        return {of: self.metrics[name] for name, (of, _, rest) in names.items()
                if rest == metric and of not in ("train", "layers")}  # fmt: skip

    def layers(self, statistic: str) -> dict[str, Series]:
        """Return {layer: Series} of a statistic of `research.diagnose.layers`."""
        prefix = f"layers/{statistic}/"
        return {name.removeprefix(prefix): series for name, series in self.metrics.items() if name.startswith(prefix)}


def grow(metrics: dict[str, Series], step: int, values: Mapping[str, float | None]) -> None:
    """Append a point to each series. Points at or after this step are dropped, because a restart repeats steps."""
    for name, value in values.items():
        series = metrics.setdefault(name, Series([], []))
        while series.steps and series.steps[-1] >= step:
            series.steps.pop(), series.values.pop()
        value = number(value)
        series.steps.append(step)
        series.values.append(float("nan") if value is None else value)


def recorded(run: Run) -> History:
    """Return the History of a run that was read from its folder."""
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
    for name, evaluation in run.evaluations.items():
        _classes(history, name, evaluation.arrays)
    failed = run.status.get("status") == "failed"
    return history._replace(trouble=str(run.status.get("text") or "") if failed else "")


def follow(history: History, event, *, compiling: float, timed: bool) -> None:
    """Append the metrics of an event of `research.events`; for a `timed` interval also its timing.

    `compiling`: the seconds of compilation in the interval.
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
    """Return the median."""
    return float(np.median(np.asarray(list(values))))


def _classes(history, name, arrays):
    """Store the examples per class, which are the row sums of a confusion matrix."""
    matrix = arrays.get("confusion")
    if matrix is not None and np.ndim(matrix) == 2:
        history.classes[name] = np.asarray(matrix, float).sum(1)
