"""RESULTS.md, made from the lines that the harness stored: medians with spread, and ratios of the same round."""

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

QUIET = 0.03  # the share of the cores that other processes may take before a figure is marked


class Row(NamedTuple):
    """A contender in one piece of work: ms a step (median and quartiles), CPU ms, and two ratios of the same rounds.

    `to_floor` is its time by the reference's, `ours` our time by its; None where there is no such contender. `loss`
    is the mean over the rounds.
    """

    contender: str
    ms: float
    low: float
    high: float
    cpu_ms: float
    to_floor: float | None
    ours: float | None
    rss: float
    foreign: float
    loss: float | None


def rows(line: Mapping[str, Any]) -> list[Row]:
    """The rows of a line of the results, in the order in which its contenders were started."""
    by = {name: [r for r in line["rounds"] if r["contender"] == name] for name in line["contenders"]}
    times = {name: {r["round"]: r["ms"] for r in played} for name, played in by.items()}

    def ratio(a, b):
        return statistics.median(times[a][i] / times[b][i] for i in times[a]) if a in times and b in times else None

    def row(name, played):
        ms = [r["ms"] for r in played]
        low, _, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
        middle = {key: statistics.median(r[key] for r in played) for key in ("cpu_ms", "foreign", "rss")}
        losses = [r["loss"] for r in played if r.get("loss") is not None]
        return Row(
            name, statistics.median(ms), low, high, middle["cpu_ms"], ratio(name, "floor"), ratio("ours", name),
            middle["rss"], middle["foreign"], statistics.mean(losses) if losses else None,
        )  # fmt: skip

    return [row(name, played) for name, played in by.items() if played]


def table(line: Mapping[str, Any]) -> str:
    """A line of the results as Markdown."""
    if "table" in line:
        when = f"{line['time'][:16]}, commit {line['commit']}."
        return f"### {line['work']}\n\n{line['about']}\n\n{when}\n\n{line['table']}"
    shown = lambda x: "" if x is None else f"{x:.2f}"
    head = (
        "| contender | ms a step | quartiles | CPU ms | x floor | ours by it | peak RSS, MB |\n|---" + 6 * "|--:" + "|"
    )
    body = [
        f"| {r.contender} | {number(r.ms)} | {number(r.low)} - {number(r.high)} | {number(r.cpu_ms)} | "
        f"{shown(r.to_floor)} | {shown(r.ours)} | {r.rss / 1e6:.0f} |"
        for r in rows(line)
    ]
    wrong = [f"{r.contender} {1 - r.loss:.2%}" for r in rows(line) if line["work"] == "speedrun"]
    right = ["", f"Right on the test images, mean over the rounds: {', '.join(wrong)}."] if wrong else []
    return "\n".join([f"### {title(line)}", "", note(line), "", head, *body, *right])


def title(line: Mapping[str, Any]) -> str:
    """The work and its sizes."""
    return f"{line['work']} ({', '.join(f'{k} {v}' for k, v in line['sizes'].items())})"


def note(line: Mapping[str, Any]) -> str:
    """When, how often and how quietly it was measured, and who was left out."""
    foreign = statistics.median([r["foreign"] for r in line["rounds"]] or [0.0])
    quiet = "quiet" if foreign <= QUIET else "**NOT QUIET**"
    count = 1 + max((r["round"] for r in line["rounds"]), default=-1)
    text = f"{line['time'][:16]}, commit {line['commit']}, {count} rounds, {quiet}"
    return " ".join([f"{text} (others took {foreign:.1%} of the cores).", *(f"{reason}." for reason in line["lost"])])


def number(x: float) -> str:
    """Three digits that say something."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def read(folder) -> list[dict[str, Any]]:
    """All lines of the results in a folder."""
    return [json.loads(line) for path in sorted(Path(folder).glob("*.jsonl")) for line in path.read_text().splitlines()]


def page(lines: Iterable[Mapping[str, Any]]) -> str:
    """RESULTS.md: of every work on every machine the newest line."""
    places: dict[str, dict[str, Any]] = {}
    for line in lines:
        place = line["machine"]
        where = f"{place['processor']}, {place['cores']} cores, {place['memory_gib']:.0f} GiB"
        where += f", {place['devices']} x {place['device']}"
        places.setdefault(where, {})[line["work"]] = line
    parts = [
        "# Speed, side by side",
        "Made by `python -m tests.benchmarks`; do not edit. How it is measured: `tests/benchmarks/__init__.py`. All in "
        "f32. A ratio is the median of same-round ratios; below 1.00 in the column *ours by it* we are ahead. Where a "
        "table says NOT QUIET its figures are not to be quoted.",
    ]
    for where, works in places.items():
        newest = max(works.values(), key=lambda line: line["time"])
        software = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
        parts += [f"## {where}", f"{newest['machine']['system']}; {software}."]
        parts += [table(line) for line in works.values()]
    return "\n\n".join(parts) + "\n"
