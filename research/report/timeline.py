"""What happened on the way of a run, over the step and in words: checkpoints, restarts, notices such as warnings."""

from research.files import number
from research.html.figure import COLOURS, INK, inline_svg, new_figure, step_axis, style
from research.html.markup import Html, duration, element, table
from research.report.pace import ENDS, happenings

RED = "#d0453f"
KINDS = {"saved": "checkpoints", "evaluated": "evaluations", "noted": "notices", "failed": "failed"}
LANES = ("lives", "evaluations", "checkpoints", "notices")


def timeline(lines) -> str:
    """The lives of a run as bars over the step, with its evaluations, checkpoints and notices, as an SVG element; ""
    where nothing is to be seen: a life without any of them.

    Steps that were taken twice, since a restart goes back to a checkpoint, show as bars that overlap.
    """
    lived = lives(lines)
    marks = {kind: [line["step"] for line in lines if line.get("event") == kind] for kind in KINDS}
    if not lived or (len(lived) == 1 and not any(marks.values())):
        return ""
    rows = [lane for lane in LANES if lane == "lives" or any(marks[k] for k in marks if KINDS[k] == lane)]
    with style():
        figure, (ax,) = new_figure(9.0, 0.55 + 0.3 * len(rows) + 0.14 * (len(lived) - 1))
        extra = 0.45 * (len(lived) - 1)
        heights = {lane: -i - (extra if i else 0) for i, lane in enumerate(rows)}
        for i, (begin, end, word) in enumerate(lived):
            cut = word not in ("finished", "running")
            height = -0.45 * i
            ax.plot([begin, end], [height] * 2, color=COLOURS[0], linewidth=5, solid_capstyle="butt", alpha=0.85)
            if cut:
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
        said = ", ".join(f"{len(found)} {KINDS[kind]}" for kind, found in marks.items() if found)
        return inline_svg(figure, label=f"timeline: {len(lived)} lives, {said}")


def lives(lines) -> list[tuple[int, int, str]]:
    """(first step, last step that is known, how it ended) of each life of a run: finished, preempted, failed, "cut off"
    where another began without a word, or running.
    """
    found: list[list] = []
    for line in lines:
        event = line.get("event")
        if event == "started":
            if found and found[-1][2] == "running":
                found[-1][2] = "cut off"
            found.append([line["step"], line["step"], "running"])
        elif found:
            found[-1][1] = max(found[-1][1], line["step"])
            found[-1][2] = event if event in ENDS else found[-1][2]
    return [tuple(one) for one in found]


def happened(lines) -> Html:
    """The timeline as a table, where notices, restarts and failures stand out; empty where nothing was recorded."""
    rows, begun = [], False
    for row in happenings(lines):
        word, kind = row.event, ""
        if row.event == "started":
            word, kind = ("restarted", "preempted") if begun else ("started", "")
            begun = True
        elif row.event == "noted":
            word, kind = "notice", "preempted"
        elif row.event in ENDS:
            kind = row.event
        shown = element("span", word, class_=f"badge {kind}") if kind else word
        when = "" if number(row.seconds) is None else duration(row.seconds)
        rows.append([when, row.step, shown, element("b", row.text) if row.event == "noted" else row.text])
    return table(["after", "step", "event", ""], rows, numeric=("after", "step")) if rows else Html()
