"""How fast a run went, what it waited for, and what happened to it on the way: all from timing.jsonl."""

from typing import NamedTuple

from research.files import number
from research.html.figure import COLOURS, inline_svg, new_figure, step_axis, style
from research.html.markup import duration

ENDS = ("finished", "preempted", "failed")
ROUTINE = ("saved", "evaluated")  # so many that they are told together


class Pace(NamedTuple):
    """Seconds spent in steps and in evaluations over all lives of a run; rate and wait without first intervals."""

    training: float
    evaluating: float
    steps_per_second: float | None
    data_wait: float | None
    lives: int


class Happening(NamedTuple):
    """A row of the timeline: seconds since the first line, the step, what happened, and in which words."""

    seconds: float | None
    step: int
    event: str
    text: str


def pace(lines) -> Pace:
    """Totals from the lines of timing.jsonl. The first interval of each life compiles, and says nothing of the rate."""
    training = evaluating = steps = steady = waited = 0.0
    lives, first = 0, True
    for line in lines:
        if line.get("event") == "started":
            lives, first = lives + 1, True
        elif line.get("event") == "evaluated":
            evaluating += number(line.get("seconds")) or 0
        elif "event" not in line:
            seconds, rate, wait = (number(line.get(key)) or 0 for key in ("seconds", "steps_per_second", "data_wait"))
            training += seconds
            if not first:
                steps, steady, waited = steps + rate * seconds, steady + seconds, waited + wait * seconds
            first = False
    return Pace(training, evaluating, steps / steady if steady else None, waited / steady if steady else None, lives)


def happenings(lines) -> list[Happening]:
    """The timeline. Checkpoints and evaluations in a row are one entry; a life that ended without a word is named."""
    rows: list[Happening] = []
    routine: dict[tuple[str, str], list[dict]] = {}
    begin = next((number(line.get("time")) for line in lines if number(line.get("time")) is not None), None)
    alive = False

    def when(line):
        time = number(line.get("time"))
        return None if time is None or begin is None else time - begin

    def close():
        for (event, name), found in routine.items():
            steps = [line["step"] for line in found]
            what = "checkpoint saved" if event == "saved" else f"{name} evaluated"
            text = f"at step {steps[0]}" if len(steps) == 1 else f"{len(steps)} times, steps {steps[0]} to {steps[-1]}"
            rows.append(Happening(when(found[-1]), steps[-1], what, text))
        routine.clear()

    for line in lines:
        event = line.get("event")
        if event in ROUTINE:
            routine.setdefault((event, line.get("text") or ""), []).append(line)
        elif event:
            close()
            words = line.get("text") or ""
            if event == "started":
                words = f"of {line['total']} steps" if "total" in line else ""
                words += " (the life before was cut off)" * alive
            alive = event not in ENDS
            rows.append(Happening(when(line), line["step"], event, words))
    close()
    return rows


def pace_curves(lines) -> list[str]:
    """Steps per second, the share of time spent waiting for data, and, where the run tells it, the most memory taken so
    far, over the step, as SVG elements.

    Of steps that were taken again after a restart, the last figures are shown. Without any interval: [].
    """
    intervals = {line["step"]: line for line in lines if "event" not in line}
    if not intervals:
        return []
    steps = sorted(intervals)

    def column(key, factor=1.0):
        values = [number(intervals[step].get(key)) for step in steps]
        return [float("nan") if value is None else factor * value for value in values]

    plots = [
        ("steps per second", COLOURS[0], column("steps_per_second"), None),
        ("waiting for data, % of the time", COLOURS[1], column("data_wait", 100), 100),
        ("memory, the most so far, GiB", COLOURS[2], column("memory", 2**-30), None),
    ]
    plots = [plot for plot in plots if any(value == value for value in plot[2])]
    svgs = []
    with style():
        for plot in plots:
            figure, (ax,) = new_figure(4.4, 2.3)
            _plot(ax, steps, *plot)
            svgs.append(inline_svg(figure, label=f"{plot[0]}, over the step"))
    return svgs


def _plot(ax, steps, title, colour, values, top):
    marker = "o" if len(steps) <= 3 else None
    ax.plot(steps, values, color=colour, linewidth=1.4, marker=marker, markersize=3)
    ax.set_title(title)
    ax.set_xlabel("step")
    highest = max((value for value in values if value == value), default=1) or 1
    # Room for a small share to be seen as small, without drawing most of an empty plot.
    ax.set_ylim(0, 1.1 * highest if top is None else min(max(1.3 * highest, 10), 1.02 * top))
    step_axis(ax)


def described(found: Pace) -> str:
    """The totals in a sentence or two; empty where nothing was timed."""
    if not found.training:
        return ""
    words = f"{duration(found.training)} in training steps, {duration(found.evaluating)} in evaluations"
    words += f", over {found.lives} lives of the run." if found.lives > 1 else "."
    if found.steps_per_second is not None:
        words += (
            f" After the first interval, which compiles: {found.steps_per_second:.4g} steps/s, "
            f"{100 * found.data_wait:.1f} % of the time waiting for data."
        )
    return words
