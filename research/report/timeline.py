"""The timeline of a run as a plot and a table: starts, checkpoints, evaluations, notices and failures."""

from research.diagnose.findings_page import with_code
from research.files import number
from research.html.figure import COLOURS, INK, inline_svg, new_figure, step_axis, style
from research.html.markup import Html, duration, element, join, table
from research.report.pace import ENDS, happenings

RED = "#d0453f"
KINDS = {"saved": "checkpoints", "evaluated": "evaluations", "noted": "notices", "failed": "failed"}
LANES = ("attempts", "evaluations", "checkpoints", "notices")


def timeline(lines) -> str:
    """Draw the attempts of a run as bars over the step, with evaluations, checkpoints and notices, as an SVG element.

    A restart resumes from a checkpoint and repeats the steps since then. Such steps appear as overlapping bars. Returns
    "" if nothing started, or if there is a single attempt without any event.
    """
    intervals = lives(lines)
    marks = {kind: [line["step"] for line in lines if line.get("event") == kind] for kind in KINDS}
    if not intervals or (len(intervals) == 1 and not any(marks.values())):
        return ""
    rows = [lane for lane in LANES if lane == "attempts" or any(marks[k] for k in marks if KINDS[k] == lane)]
    with style():
        figure, (ax,) = new_figure(9.0, 0.55 + 0.3 * len(rows) + 0.14 * (len(intervals) - 1))
        offset = 0.45 * (len(intervals) - 1)
        heights = {lane: -i - (offset if i else 0) for i, lane in enumerate(rows)}
        for i, (begin, end, outcome) in enumerate(intervals):
            interrupted = outcome not in ("finished", "running")
            height = -0.45 * i
            ax.plot([begin, end], [height] * 2, color=COLOURS[0], linewidth=5, solid_capstyle="butt", alpha=0.85)
            if interrupted:
                ax.plot([end], [height], color=RED, marker="x", markersize=6, markeredgewidth=1.8)
        looks = {
            "evaluations": {"color": COLOURS[2], "marker": "|", "markersize": 7},
            "checkpoints": {"color": INK, "marker": "D", "markersize": 3.2},
            "notices": {"color": COLOURS[1], "marker": "^", "markersize": 6},
        }
        for kind, lane in KINDS.items():
            if lane in looks and marks[kind]:
                ax.plot(marks[kind], [heights[lane]] * len(marks[kind]), linestyle="none", **looks[lane])
        ax.set_yticks(list(heights.values()), rows)
        ax.set_ylim(min(heights.values()) - 0.6, 0.6)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        ax.set_xlabel("step")
        step_axis(ax)
        counts = ", ".join(f"{len(steps)} {KINDS[kind]}" for kind, steps in marks.items() if steps)
        return inline_svg(figure, label=f"timeline: {len(intervals)} attempts, {counts}")


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
