"""What a sweep came to: a table of its trials, a picture of all of them at once, and which knobs mattered."""

import math
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.html.document import document
from research.html.figure import COLOURS, INK, inline_svg, new_figure, style, write_png
from research.html.markup import Html, duration, element, format_number, join, percent, section, shortened, table
from research.search.space import Choices, Range
from research.search.study import Sweep, folder_of, library

STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
DRAWN = 500  # trials in the picture


class Trial(NamedTuple):
    """One trial: `state` is finished, pruned, failed, running or waiting; `value` that of the metric, or None.

    `same_as` is the trial whose result it took because it had the same knobs, else None.
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
    """All trials: the finished ones from best to worst, then those that were stopped, failed, run or wait."""
    found = []
    for t in study.get_trials(deepcopy=False):
        work, same = t.user_attrs.get("work", {}), t.user_attrs.get("same_as")
        found.append(Trial(
            t.number, STATES[t.state.name], dict(t.params), t.value if t.state.is_finished() else None,
            work.get("steps", 0), work.get("seconds", 0.0), t.user_attrs.get("error", ""), same,
            folder_of(sweep, t.number if same is None else same),
        ))  # fmt: skip
    order, sign = list(STATES.values()), -1 if sweep.mode == "max" else 1
    return sorted(found, key=lambda t: (order.index(t.state), sign * t.value if t.value is not None else 0, t.number))


def importance(study) -> dict[str, float]:
    """{knob: its share of the variance of the metric}, largest first, by fANOVA (Hutter et al. 2014).

    Of the trials that finished alone, and so of the region that the search looked at. {} where fewer than four
    finished, or all came to the same.
    """
    optuna = library()
    done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if len(done) < 4 or len({t.value for t in done}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def report(sweep: Sweep, study) -> Path:
    """Writes `report.html` and `parallel.png` into the folder of the sweep, and gives the path of the page.

    The page needs no network. Works at any time, also while workers go on.
    """
    trials = trials_of(sweep, study)
    svg = parallel(sweep, trials, path=sweep.folder / "parallel.png")
    counts = {state: sum(t.state == state for t in trials) for state in STATES.values()}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trial yet"
    spent = f"{sum(t.steps for t in trials)} steps, {duration(sum(t.seconds for t in trials))} of training"
    shares = [[name, percent(share)] for name, share in importance(study).items()]
    body = join([
        element("header", element("h1", f"Sweep of {sweep.name}"), element("p", f"{sweep.metric}, {sweep.mode}")),
        element("p", f"{said}; {spent}. Search: {sweep.search}; stopping: {sweep.stopping}; seed {sweep.seed}."),
        section("Best", *_best(sweep, trials)),
        section("All trials at once", element("div", Html(svg), class_="plot") if svg else "",
                element("p", "A line is a trial, from blue (worst) to orange (best); grey ones were stopped there.",
                        class_="remark") if svg else ""),
        section("Importance of knobs", table(["knob", "of the variance"], shares, numeric=("of the variance",)),
                element("p", "fANOVA of the finished trials; what knobs do together counts for each.",
                        class_="remark"))
        if shares else "",
        section("Trials", _table(sweep, trials)),
    ])  # fmt: skip
    path = sweep.folder / "report.html"
    part = path.with_name(f".report.{np.random.default_rng().integers(2**32)}.part")
    part.write_text(document(f"sweep of {sweep.name}", body), encoding="utf-8")
    part.replace(path)
    return path


def command_of(sweep: Sweep, trial: Trial, file: str) -> str:
    """What one types to train with the knobs of a trial."""
    knobs = {**sweep.space.fixed, **trial.knobs}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in knobs.items()]
    return shlex.join(["python", "-m", "research", "train", file, *flags, "--seed", str(sweep.seed)])


def lines(sweep: Sweep, study, *, most: int = 10) -> str:
    """The table as text: the best `most` trials, then how many there are besides."""
    trials = trials_of(sweep, study)
    names = list(sweep.space.searched)
    head = ["trial", "", sweep.metric, *names, "steps"]
    rows = [
        [str(t.number), t.state, format_number(t.value), *[_written(t.knobs.get(n, "")) for n in names], str(t.steps)]
        for t in trials[:most]
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    written = lambda row: "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    text = [written(row) for row in [head, *rows]]
    if len(trials) > most:
        text.append(f"... and {len(trials) - most} more")
    if shares := importance(study):
        text.append("importance: " + "  ".join(f"{name} {percent(share)}" for name, share in shares.items()))
    return "\n".join(text)


def parallel(sweep: Sweep, trials, *, path=None) -> str:
    """Parallel coordinates as an SVG element, and a PNG at `path`: an axis for each knob and one for the metric.

    Empty where no trial has a value. Values of the metric that lie far off are drawn at the end of its axis.
    """
    shown = [t for t in trials if t.value is not None and math.isfinite(t.value)][:DRAWN]
    if not shown:
        return ""
    names = list(sweep.space.searched)
    ends = _ends([t.value for t in shown], sweep.mode)
    with style():
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("worst to best", COLOURS[:2])
        picture, (ax,) = new_figure(1.6 * (len(names) + 1) + 0.6, 3.4)
        for t in sorted(shown, key=lambda t: (t.state == "finished", -trials.index(t))):  # the best on top
            heights = [_height(sweep.space.searched[name], t.knobs[name], t.number) for name in names]
            heights.append(_share(Range(*ends), t.value))
            good = heights[-1] if sweep.mode == "max" else 1 - heights[-1]
            pruned, best = t.state != "finished", t is shown[0]
            colour = "#9a9a9a" if pruned else colours(good)
            ax.plot(range(len(heights)), heights, color=colour, linewidth=2.6 if best else 0.7 if pruned else 1.2,
                    alpha=0.5 if pruned else 0.9, linestyle=":" if pruned else "-")  # fmt: skip
        for place, name in enumerate(names):
            _axis(ax, place, name, _ticks(sweep.space.searched[name]))
        _axis(ax, len(names), sweep.metric, [(_share(Range(*ends), v), _written(v)) for v in np.linspace(*ends, 5)])
        ax.set_xlim(-0.5, len(names) + 0.5)
        ax.set_ylim(-0.06, 1.06)
        ax.set_axis_off()
        if path is not None:
            write_png(picture, path)
        label = f"parallel coordinates of {len(shown)} trials: {', '.join(names)}, {sweep.metric}"
        return inline_svg(picture, label=label)


def _axis(ax, place, name, ticks):
    ax.plot([place, place], [0, 1], color=INK, linewidth=0.8)
    ax.text(place, 1.07, shortened(name, 22), ha="center", va="bottom", fontsize=9, fontweight="bold")
    for height, words in ticks:
        ax.plot([place - 0.02, place], [height, height], color=INK, linewidth=0.8)
        ax.text(place - 0.04, height, shortened(words, 12), ha="right", va="center", fontsize=8)


def _ticks(of) -> list[tuple[float, str]]:
    """(height, words) along the axis of a knob."""
    if isinstance(of, Choices):
        return [(_height(of, value), _written(value)) for value in of.values]
    if of.log:
        first, last = math.ceil(math.log10(of.low) - 1e-9), math.floor(math.log10(of.high) + 1e-9)
        decades = [10.0**power for power in range(first, last + 1)]
        marks = decades[:: -(-len(decades) // 6)] if len(decades) > 1 else np.geomspace(of.low, of.high, 4).tolist()
    else:
        marks = np.linspace(of.low, of.high, 5).tolist()
    if isinstance(of.low, int):
        marks = sorted({min(max(round(mark), of.low), of.high) for mark in marks})
    return [(_share(of, mark), _written(mark)) for mark in marks]


def _height(of, value, number=0) -> float:
    """Where a value lies on its axis, 0 to 1; lines through one choice are spread a little by trial number."""
    if isinstance(of, Choices):
        place = [type(v) is type(value) and v == value for v in of.values].index(True)
        spread = 0.0 if not number else (number * 0.618 % 1 - 0.5) * 0.3 / len(of.values)
        return (place + 0.5 + spread) / len(of.values)
    return _share(of, value)


def _share(of: Range, value) -> float:
    scale = math.log if of.log else float
    return min(1.0, max(0.0, (scale(value) - scale(of.low)) / (scale(of.high) - scale(of.low) or 1)))


def _ends(values, mode) -> tuple[float, float]:
    """The ends of the metric's axis: from the best value to the worst that is not far off."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    if mode == "max":
        return max(low, high - 4 * (high - middle)) if high > middle else low, high
    return low, min(high, low + 4 * (middle - low)) if middle > low else high


def _best(sweep, trials) -> list:
    done = [t for t in trials if t.state == "finished"]
    if not done:
        return [element("p", "No trial has finished.", class_="remark")]
    words = f"{sweep.metric} {format_number(done[0].value)} by trial {done[0].number}"
    return [element("p", element("b", words)), element("pre", command_of(sweep, done[0], Path(sweep.file).name))]


def _table(sweep, trials) -> Html:
    names = list(sweep.space.searched)
    rows = []
    for t in trials:
        remark = t.error or (f"the knobs of trial {t.same_as}" if t.same_as is not None else "")
        badge = element("span", t.state, class_=f"badge {'preempted' if t.state == 'pruned' else t.state}")
        knobs = [_written(t.knobs.get(name, "")) for name in names]
        rows.append(
            [t.number, badge, format_number(t.value), *knobs, t.steps, duration(t.seconds), shortened(remark, 200)]
        )
    head = ["trial", "state", sweep.metric, *names, "steps", "time", "remark"]
    return table(head, rows, numeric=("trial", sweep.metric, "steps", "time", *names))


def _written(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
