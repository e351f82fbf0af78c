"""The report of a sweep: a table of trials, a parallel-coordinates plot, and the importance of knobs."""

import math
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.html import marks
from research.html.chart import Axis, chart, save
from research.html.document import document
from research.html.markup import Html, duration, element, format_number, join, percent, section, shortened, table
from research.runs.knobs import as_option
from research.search.space import Choices, Range
from research.search.study import Sweep, folder_of, library

STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
MAX_LINES = 500  # trials in the plot


class Trial(NamedTuple):
    """One trial. `state` is finished, pruned, failed, running or waiting; `value` is its metric, or None.

    `same_as` is the earlier trial with the same knobs whose result was reused, otherwise None.
    """

    number: int
    state: str
    knobs: dict
    value: float | None
    steps: int
    seconds: float
    error: str
    same_as: int | None
    folder: Path


def trials_of(sweep: Sweep, study) -> list[Trial]:
    """Return all trials: finished ones from best to worst, then pruned, failed, running and waiting ones."""
    trials = []
    for t in study.get_trials(deepcopy=False):
        work, same = t.user_attrs.get("work", {}), t.user_attrs.get("same_as")
        trials.append(Trial(
            t.number, STATES[t.state.name], dict(t.params), t.value if t.state.is_finished() else None,
            work.get("steps", 0), work.get("seconds", 0.0), t.user_attrs.get("error", ""), same,
            folder_of(sweep, t.number if same is None else same),
        ))  # fmt: skip
    order, sign = list(STATES.values()), -1 if sweep.mode == "max" else 1
    return sorted(trials, key=lambda t: (order.index(t.state), sign * t.value if t.value is not None else 0, t.number))


def importance(study) -> dict[str, float]:
    """Return {knob: fraction of the variance of the metric}, largest first, by fANOVA (Hutter et al. 2014).

    The fractions are main effects of single knobs, scaled to a sum of 1. They describe finished trials only, and thus
    the region that the search explored. Returns {} if fewer than four trials finished or all have the same value.
    """
    optuna = library()
    finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if len(finished) < 4 or len({t.value for t in finished}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    fractions = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(fraction) for name, fraction in fractions.items()}


def report(sweep: Sweep, study) -> Path:
    """Write `report.html` and `parallel.svg` to the folder of the sweep, and return the path of the page.

    The page needs no network. It can be written at any time, also while workers are running.
    """
    trials = trials_of(sweep, study)
    svg = parallel(sweep, trials, path=sweep.folder / "parallel.svg")
    counts = {state: sum(t.state == state for t in trials) for state in STATES.values()}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trials yet"
    cost = f"{sum(t.steps for t in trials)} steps, {duration(sum(t.seconds for t in trials))} of training time"
    rows = [[name, percent(fraction)] for name, fraction in importance(study).items()]
    body = join([
        element("header", element("h1", f"Sweep of {sweep.name}"), element("p", f"{sweep.mode}imize {sweep.metric}")),
        element("p", f"{states}; {cost}. Search: {sweep.search}; stopping: {sweep.stopping}; seed {sweep.seed}."),
        section("Best trial", *_best(sweep, trials)),
        section("Parallel coordinates", element("div", Html(svg), class_="plot") if svg else "",
                element("p", "Each line is a trial, from blue (worst) to orange (best). Grey lines are pruned trials.",
                        class_="remark") if svg else ""),
        section("Knob importance", table(["knob", "importance"], rows, numeric=("importance",)),
                element("p", "Main effects by fANOVA over the finished trials, scaled to 100 %.",
                        class_="remark"))
        if rows else "",
        section("Trials", _table(sweep, trials)),
    ])  # fmt: skip
    path = sweep.folder / "report.html"
    temporary = path.with_name(f".report.{np.random.default_rng().integers(2**32)}.part")
    temporary.write_text(document(f"sweep of {sweep.name}", body), encoding="utf-8")
    temporary.replace(path)
    return path


def command_of(sweep: Sweep, trial: Trial, file: str) -> str:
    """Return the command line that trains with the knobs of a trial."""
    knobs = {**sweep.space.fixed, **trial.knobs}
    flags = [f"--{name.replace('_', '-')}={as_option(value)}" for name, value in knobs.items()]
    return shlex.join(["python", "-m", "research", "train", file, *flags, "--seed", str(sweep.seed)])


def lines(sweep: Sweep, study, *, most: int = 10) -> str:
    """Format the table as text: the best `most` trials, the number of trials left out, and the importance of knobs."""
    trials = trials_of(sweep, study)
    names = list(sweep.space.searched)
    head = ["trial", "", sweep.metric, *names, "steps"]
    rows = [
        [str(t.number), t.state, format_number(t.value), *[_format(t.knobs.get(n, "")) for n in names], str(t.steps)]
        for t in trials[:most]
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    format_row = lambda row: "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    text = [format_row(row) for row in [head, *rows]]
    if len(trials) > most:
        text.append(f"... and {len(trials) - most} more")
    if shares := importance(study):
        text.append("importance: " + "  ".join(f"{name} {percent(share)}" for name, share in shares.items()))
    return "\n".join(text)


def parallel(sweep: Sweep, trials, *, path=None) -> str:
    """Draw parallel coordinates as an SVG element, and as a file at `path`: an axis per knob and one for the metric.

    Empty if no trial has a value. Metric values far from the rest are clipped to the end of their axis.
    """
    plotted = [t for t in trials if t.value is not None and math.isfinite(t.value)][:MAX_LINES]
    if not plotted:
        return ""
    names = list(sweep.space.searched)
    ends = _ends([t.value for t in plotted], sweep.mode)
    drawn, values = [], []
    for t in sorted(plotted, key=lambda t: (t.state == "finished", -trials.index(t))):  # the best on top
        heights = [_height(sweep.space.searched[name], t.knobs[name], t.number) for name in names]
        heights.append(_scaled(Range(*ends), t.value))
        quality = heights[-1] if sweep.mode == "max" else 1 - heights[-1]
        look = {"colour": marks.blend(marks.COLOURS[:2], quality), "width": 2.8 if t is plotted[0] else 1.2}
        if t.state != "finished":
            look = {"colour": marks.GREY, "width": 1, "dash": "1.5 2.5"}
        drawn.append(marks.line(range(len(heights)), heights, **look))
        knobs = ", ".join(f"{name} {_format(t.knobs[name])}" for name in names)
        values.append((len(names), heights[-1], f"trial {t.number}: {sweep.metric} {_format(t.value)}; {knobs}"))
    for index, name in enumerate(names):
        drawn += _axis(index, name, _ticks(sweep.space.searched[name]))
    drawn += _axis(len(names), sweep.metric, [(_scaled(Range(*ends), v), _format(v)) for v in np.linspace(*ends, 5)])
    x, y = Axis(limits=(-0.4, len(names) + 0.3)), Axis(limits=(-0.04, 1.12))
    label = f"parallel coordinates of {len(plotted)} trials: {', '.join(names)}, {sweep.metric}"
    width = max(160 * (len(names) + 1), 900)
    svg = chart([*drawn, marks.values(values)], label=label, x=x, y=y, width=width, height=340, frame=False, grid=False)
    if path is not None:
        save([svg], path)
    return svg


def _axis(x, name, ticks) -> list[marks.Mark]:
    drawn = [marks.line([x, x], [0, 1], colour="currentColor", width=1)]
    for height, words in ticks:
        drawn.append(marks.line([x - 0.03, x], [height, height], colour="currentColor", width=1))
        drawn.append(marks.label(x - 0.05, height, shortened(words, 12), anchor="end"))
    return [*drawn, marks.label(x, 1.09, shortened(name, 22), bold=True)]


def _ticks(spec) -> list[tuple[float, str]]:
    """Return (height, label) for each tick on the axis of a knob."""
    if isinstance(spec, Choices):
        return [(_height(spec, value), _format(value)) for value in spec.values]
    if spec.log:
        first, last = math.ceil(math.log10(spec.low) - 1e-9), math.floor(math.log10(spec.high) + 1e-9)
        decades = [10.0**power for power in range(first, last + 1)]
        marks = decades[:: -(-len(decades) // 6)] if len(decades) > 1 else np.geomspace(spec.low, spec.high, 4).tolist()
    else:
        marks = np.linspace(spec.low, spec.high, 5).tolist()
    if isinstance(spec.low, int):
        marks = sorted({min(max(round(mark), spec.low), spec.high) for mark in marks})
    return [(_scaled(spec, mark), _format(mark)) for mark in marks]


def _height(spec, value, number=0) -> float:
    """Return the position of a value on its axis, 0 to 1.

    Lines through the same choice are spread slightly, by trial number.
    """
    if isinstance(spec, Choices):
        index = [type(v) is type(value) and v == value for v in spec.values].index(True)
        spread = 0.0 if not number else (number * 0.618 % 1 - 0.5) * 0.3 / len(spec.values)
        return (index + 0.5 + spread) / len(spec.values)
    return _scaled(spec, value)


def _scaled(spec: Range, value) -> float:
    scale = math.log if spec.log else float
    return min(1.0, max(0.0, (scale(value) - scale(spec.low)) / (scale(spec.high) - scale(spec.low) or 1)))


def _ends(values, mode) -> tuple[float, float]:
    """Return the limits of the metric's axis: the best value, and the worst value that is not an outlier."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    if mode == "max":
        return max(low, high - 4 * (high - middle)) if high > middle else low, high
    return low, min(high, low + 4 * (middle - low)) if middle > low else high


def _best(sweep, trials) -> list:
    finished = [t for t in trials if t.state == "finished"]
    if not finished:
        return [element("p", "No finished trial yet.", class_="remark")]
    headline = f"{sweep.metric} {format_number(finished[0].value)} by trial {finished[0].number}"
    return [element("p", element("b", headline)), element("pre", command_of(sweep, finished[0], Path(sweep.file).name))]


def _table(sweep, trials) -> Html:
    names = list(sweep.space.searched)
    rows = []
    for t in trials:
        remark = t.error or (f"same knobs as trial {t.same_as}" if t.same_as is not None else "")
        badge = element("span", t.state, class_=f"badge {'preempted' if t.state == 'pruned' else t.state}")
        knobs = [_format(t.knobs.get(name, "")) for name in names]
        rows.append(
            [t.number, badge, format_number(t.value), *knobs, t.steps, duration(t.seconds), shortened(remark, 200)]
        )
    head = ["trial", "state", sweep.metric, *names, "steps", "time", "remark"]
    return table(head, rows, numeric=("trial", sweep.metric, "steps", "time", *names))


def _format(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
