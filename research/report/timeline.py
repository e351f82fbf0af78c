"""The timeline of a run as a plot and a table: starts, checkpoints, evaluations, notices and failures."""

from research.diagnose.findings_page import with_code
from research.files import number
from research.html import marks
from research.html.chart import Axis, chart
from research.html.markup import Html, duration, element, join, table
from research.report.pace import ENDS, happenings

RED = "#d0453f"
KINDS = {"saved": "checkpoints", "evaluated": "evaluations", "noted": "notices", "failed": "failed"}
LOOKS = {
    "evaluated": (marks.COLOURS[2], "bar"),
    "saved": ("currentColor", "diamond"),
    "noted": (marks.COLOURS[1], "triangle"),
}
LANES = ("attempts", "evaluations", "checkpoints", "notices")


def timeline(lines) -> str:
    """Draw the attempts of a run as bars over the step, with evaluations, checkpoints and notices, as an SVG element.

    A restart resumes from a checkpoint and repeats the steps since then. Such steps appear as overlapping bars. Returns
    "" if nothing started, or if there is a single attempt without any event.
    """
    intervals = lives(lines)
    steps = {kind: [line["step"] for line in lines if line.get("event") == kind] for kind in KINDS}
    if not intervals or (len(intervals) == 1 and not any(steps.values())):
        return ""
    rows = [lane for lane in LANES if lane == "attempts" or any(steps[k] for k in steps if KINDS[k] == lane)]
    offset = 0.45 * (len(intervals) - 1)
    heights = {lane: -i - (offset if i else 0) for i, lane in enumerate(rows)}
    drawn = []
    for i, (begin, end, outcome) in enumerate(intervals):
        drawn.append(marks.line([begin, end], [-0.45 * i] * 2, width=6, opacity=0.85))
        if outcome not in ("finished", "running"):
            drawn.append(marks.points([end], [-0.45 * i], colour=RED, shape="cross"))
    for kind, (colour, shape) in LOOKS.items():
        places = [heights[KINDS[kind]]] * len(steps[kind]) if steps[kind] else []
        drawn.append(marks.points(steps[kind], places, colour=colour, shape=shape))
    counts = ", ".join(f"{len(found)} {KINDS[kind]}" for kind, found in steps.items() if found)
    bottom = min(heights.values()) - 0.6
    y = Axis(limits=(bottom, 0.6), ticks=[(height, lane) for lane, height in heights.items()])
    label = f"timeline: {len(intervals)} attempts, {counts}"
    return chart(drawn, label=label, x=Axis("step", whole=True), y=y, width=860, height=round(28 * (0.6 - bottom)))


def lives(lines) -> list[tuple[int, int, str]]:
    """Return (first step, last recorded step, outcome) of each attempt of a run, from its start to its end.

    The outcome is "finished", "preempted", "failed" or "running". It is "cut off" if the next attempt started before
    an end was recorded.
    """
    intervals: list[list] = []
    for line in lines:
        event = line.get("event")
        if event == "started":
            if intervals and intervals[-1][2] == "running":
                intervals[-1][2] = "cut off"
            intervals.append([line["step"], line["step"], "running"])
        elif intervals:
            intervals[-1][1] = max(intervals[-1][1], line["step"])
            intervals[-1][2] = event if event in ENDS else intervals[-1][2]
    return [tuple(interval) for interval in intervals]


def _notice(text) -> Html:
    """A notice with its first line in bold, and each remedy on a line of its own."""
    first, *rest = str(text).splitlines() or [""]
    return join([element("b", first), *[element("div", with_code(line.strip())) for line in rest]])


def happened(lines) -> Html:
    """Render the timeline as a table that highlights notices, restarts and failures; "" if nothing was recorded."""
    rows, started = [], False
    for row in happenings(lines):
        event, kind = row.event, ""
        if row.event == "started":
            event, kind = ("restarted", "preempted") if started else ("started", "")
            started = True
        elif row.event == "noted":
            event, kind = "notice", "preempted"
        elif row.event in ENDS:
            kind = row.event
        event_cell = element("span", event, class_=f"badge {kind}") if kind else event
        elapsed = "" if number(row.seconds) is None else duration(row.seconds)
        rows.append([elapsed, row.step, event_cell, _notice(row.text) if row.event == "noted" else row.text])
    return table(["elapsed", "step", "event", "details"], rows, numeric=("elapsed", "step")) if rows else Html()
