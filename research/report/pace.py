"""Speed, data wait, memory and events of a run, from timing.jsonl."""

from typing import NamedTuple

from research.files import number
from research.html import marks
from research.html.chart import Axis, chart
from research.html.markup import duration
from research.report.curves import STEP, points_of

ENDS = ("finished", "preempted", "failed")
ROUTINE = ("saved", "evaluated")  # frequent events; consecutive ones share a row


class Pace(NamedTuple):
    """Timing totals of a run over all its attempts, in seconds, and the average speed of its steps.

    An attempt is one process, from its start to its end. `lives` counts attempts: an interrupted run has several.
    `steps_per_second` and `data_wait` (fraction of time) omit the first interval of each attempt, and are None if there
    is no other interval.
    """

    training: float
    evaluating: float
    steps_per_second: float | None
    data_wait: float | None
    lives: int


class Happening(NamedTuple):
    """A row of the timeline: seconds since the first line, the step, the event and its description."""

    seconds: float | None
    step: int
    event: str
    text: str


def pace(lines) -> Pace:
    """Compute the time totals from the lines of timing.jsonl.

    The first interval of each attempt includes compilation, and is left out of the rates.
    """
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
    """Build the rows of the timeline.

    Consecutive checkpoints share one row, as do consecutive evaluations of one set. The start of an attempt
    notes if the previous attempt was cut off, that is, ended without a record.
    """
    rows: list[Happening] = []
    routine: dict[tuple[str, str], list[dict]] = {}
    start_time = next((number(line.get("time")) for line in lines if number(line.get("time")) is not None), None)
    running = False

    def seconds_since_start(line):
        time = number(line.get("time"))
        return None if time is None or start_time is None else time - start_time

    def close():
        for (event, name), records in routine.items():
            steps = [line["step"] for line in records]
            label = "checkpoint saved" if event == "saved" else f"{name} evaluated"
            text = f"at step {steps[0]}" if len(steps) == 1 else f"{len(steps)} times, steps {steps[0]} to {steps[-1]}"
            rows.append(Happening(seconds_since_start(records[-1]), steps[-1], label, text))
        routine.clear()

    for line in lines:
        event = line.get("event")
        if event in ROUTINE:
            routine.setdefault((event, line.get("text") or ""), []).append(line)
        elif event:
            close()
            description = line.get("text") or ""
            if event == "started":
                description = f"of {line['total']} steps" if "total" in line else ""
                description += " (the previous attempt was cut off)" * running
            running = event not in ENDS
            rows.append(Happening(seconds_since_start(line), line["step"], event, description))
    close()
    return rows


def pace_curves(lines) -> list[str]:
    """Plot steps per second, data wait and, if recorded, peak memory over the step, as SVG elements.

    If a restart repeated a step, its latest figures are shown. Returns [] if there is no interval.
    """
    intervals = {line["step"]: line for line in lines if "event" not in line}
    if not intervals:
        return []
    steps = sorted(intervals)

    def column(key, factor=1.0):
        values = [number(intervals[step].get(key)) for step in steps]
        return [float("nan") if value is None else factor * value for value in values]

    plots = [
        ("steps per second", marks.COLOURS[0], column("steps_per_second"), None),
        ("waiting for data (% of time)", marks.COLOURS[1], column("data_wait", 100), 100),
        ("peak memory (GiB)", marks.COLOURS[2], column("memory", 2**-30), None),
    ]
    plots = [plot for plot in plots if any(value == value for value in plot[2])]
    return [_plot(steps, *plot) for plot in plots]


def _plot(steps, title, colour, column, limit) -> str:
    drawn = [marks.line(steps, column, colour=colour, dots=len(steps) <= 3)]
    drawn.append(marks.values(points_of(title, steps, column)))
    highest = max((value for value in column if value == value), default=1) or 1
    # A small percentage should look small, but most of the plot should not be empty.
    y = Axis(limits=(0, 1.1 * highest if limit is None else min(max(1.3 * highest, 10), 1.02 * limit)))
    return chart(drawn, label=f"{title} over the step", title=title, x=STEP, y=y, height=150)


def described(found: Pace) -> str:
    """Describe the totals in a sentence or two; empty if nothing was timed."""
    if not found.training:
        return ""
    summary = f"Training steps: {duration(found.training)}; evaluations: {duration(found.evaluating)}"
    summary += f"; {found.lives} attempts." if found.lives > 1 else "."
    if found.steps_per_second is not None:
        summary += (
            f" Without the first interval, which includes compilation: {found.steps_per_second:.4g} steps/s, "
            f"{100 * found.data_wait:.1f} % of the time spent waiting for data."
        )
    return summary
