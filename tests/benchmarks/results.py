"""RESULTS.md, made from the lines that the harness stored: medians with spread, and ratios of the same round."""

import collections
import itertools
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import stability

COVERAGE = 0.9  # the least probability that an interval holds the median


class Ratio(NamedTuple):
    """The median of ratios of the same round, and an interval for it."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """A contender in one piece of work: ms a step (median and quartiles), CPU ms, and two ratios of the same rounds.

    `to_floor` is its time by the reference's, `ours` our time by its; None where there is no such contender. They come
    from its stable turns if it has as many as wanted, or else from all: then it is not `stable`, which is None if the
    turns of the line were not judged. `disturbed` counts what disturbed the others. `loss` is the mean over the rounds.
    """

    contender: str
    ms: float
    low: float
    high: float
    cpu_ms: float
    to_floor: Ratio | None
    ours: Ratio | None
    rss: float
    loss: float | None
    stable: bool | None
    calm: int
    turns: int
    disturbed: Mapping[str, int]


def rows(line: Mapping[str, Any]) -> list[Row]:
    """The rows of a line of the results, in the order in which its contenders were started."""
    judged = "wanted" in line
    found = stability.disturbances(line["rounds"]) if judged else collections.defaultdict(list)
    by = {name: [r for r in line["rounds"] if r["contender"] == name] for name in line["contenders"]}
    calm = {name: [r for r in played if not found[name, r["round"]]] for name, played in by.items()}
    stable = {name: len(calm[name]) >= line["wanted"] if judged else None for name in by}
    used = {name: calm[name] if stable[name] else played for name, played in by.items()}
    times = {name: {r["round"]: r["ms"] for r in played} for name, played in used.items()}

    def ratio(a, b):
        common = sorted(times.get(a, {}).keys() & times.get(b, {}).keys())
        return interval([times[a][i] / times[b][i] for i in common]) if common else None

    def row(name, played):
        ms = [r["ms"] for r in played]
        low, _, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
        losses = [r["loss"] for r in played if r.get("loss") is not None]
        causes = collections.Counter(cause for r in by[name] for cause in found[name, r["round"]])
        return Row(
            name, statistics.median(ms), low, high, statistics.median(r["cpu_ms"] for r in played),
            ratio(name, "floor"), ratio("ours", name), statistics.median(r["rss"] for r in played),
            statistics.mean(losses) if losses else None, stable[name], len(calm[name]),
            len(by[name]), causes,
        )  # fmt: skip

    return [row(name, played) for name, played in used.items() if played]


def interval(values: Iterable[float]) -> Ratio:
    """The median with the narrowest pair of order statistics that covers the true one with probability `COVERAGE`.

    No form of the distribution is assumed. Fewer than five values do not suffice: then it is the least and the most.
    """
    ordered = sorted(values)
    count = len(ordered)
    tails = itertools.accumulate(math.comb(count, i) for i in range(count))
    cut = max(1, sum(tail / 2 ** (count - 1) <= 1 - COVERAGE for tail in tails))
    return Ratio(statistics.median(ordered), ordered[cut - 1], ordered[-cut])


def table(line: Mapping[str, Any]) -> str:
    """A line of the results as Markdown."""
    if "table" in line:
        when = f"{line['time'][:16]}, commit {line['commit']}."
        return f"### {line['work']}\n\n{line['about']}\n\n{when}\n\n{line['table']}"
    shown = lambda x: "" if x is None else f"{x.median:.2f} ({x.low:.2f} - {x.high:.2f})"
    columns = "contender", "ms a step", "quartiles", "CPU ms", "x floor", "ours by it", "peak RSS, MB", "stable turns"
    head = f"| {' | '.join(columns)} |\n|---{(len(columns) - 1) * '|--:'}|"
    body = [
        f"| {r.contender} | {number(r.ms)} | {number(r.low)} - {number(r.high)} | {number(r.cpu_ms)} | "
        f"{shown(r.to_floor)} | {shown(r.ours)} | {r.rss / 1e6:.0f} | {calm(r)} |"
        for r in rows(line)
    ]
    wrong = [f"{r.contender} {1 - r.loss:.2%}" for r in rows(line) if line["work"] == "speedrun"]
    right = ["", f"Right on the test images, mean over the rounds: {', '.join(wrong)}."] if wrong else []
    return "\n".join([f"### {title(line)}", "", note(line), "", head, *body, *right])


def calm(row: Row) -> str:
    """How many turns were stable, and what disturbed the others."""
    if row.stable is None:
        return "not judged"
    count = f"{row.calm} of {row.turns}"
    causes = ", ".join(f"{cause} {count}" for cause, count in row.disturbed.items())
    return (count if row.stable else f"**NOT STABLE**, {count}") + (f" ({causes})" if causes else "")


def title(line: Mapping[str, Any]) -> str:
    """The work and its sizes."""
    return f"{line['work']} ({', '.join(f'{k} {v}' for k, v in line['sizes'].items())})"


def note(line: Mapping[str, Any]) -> str:
    """When, how often and how quietly it was measured, and who was left out."""
    foreign = statistics.median([r["foreign"] for r in line["rounds"]] or [0.0])
    count = 1 + max((r["round"] for r in line["rounds"]), default=-1)
    quiet = f"others took {foreign:.1%} of the cores" + (", **NOT QUIET**" if foreign > stability.FOREIGN else "")
    text = f"{line['time'][:16]}, commit {line['commit']}, {count} rounds, {quiet}."
    return " ".join([text, *(f"{reason}." for reason in line["lost"])])


def number(x: float) -> str:
    """Three digits that say something."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def read(folder) -> list[dict[str, Any]]:
    """All lines of the results in a folder."""
    return [json.loads(line) for path in sorted(Path(folder).glob("*.jsonl")) for line in path.read_text().splitlines()]


LIMITS = """\
## Limits

Goals that were not reached, with what limits them. Further attempts: `tests/benchmarks/__init__.py`.

**LSTM: 1.40 times the time of tuned PyTorch (goal 1.0).** The products are not the limit, but what the step does \
besides them. CPU time, least of five, 2026-11-30, on a machine with other work, of the parts of one layer (128 steps \
of 64 x 256 by 256 x 1024) and of the step (`python -m tests.benchmarks.limits`):

| part | XLA, ms | PyTorch, ms |
|---|--:|--:|
| h U, step by step | 75 | 107 |
| dz U^T, step by step | 96 | 99 |
| h^T dz, the gradient of a kernel: step by step in XLA, one product in PyTorch | 93 | 87 |
| gates and their gradient | 57 | |
| whole step of two layers | 1,670 | 1,144 |

A layer has two kernels, thus a step has four of each product: about 1,060 ms in XLA, as in PyTorch, whose step has \
little else. The gates are 115 of the other 610 ms of XLA; the rest was not attributed to an operation. Pinned to one \
core, XLA's gradient of a kernel took 145 ms. Tried: that gradient as one product after the loop (3 % of a step); the \
loop unrolled 2, 4 and 8 times (1.03, 1.27 and 1.84 times the CPU time); the sigmoid by tanh or exp (75 and 79 ms for \
the gates of a layer with their gradient, not 60).

**GPT .93, LSTM 1.00 and ResNet-18 .93 of the time of tuned Linen (goal .9).** The hand-written floor is at .93, .99 \
and .87 of it. For GPT and LSTM the goal is below the floor, and ours is at .98 and 1.00 of the floor.

**ResNet-18: 1.06 times the floor (goal 1.03).** A part of the difference is BatchNorm: the floor computes the \
variance as E[x^2] - E[x]^2, which loses the variance of features far from 0, and `layers.batch_norm` does not. A \
layer alone, forward and backward, takes 18.5 instead of 13.9 ms of CPU time for 64 images of 32 x 32 x 64, and 4.5 \
instead of 4.1 for 8 x 8 x 256: for all layers about 40 of the 150 ms by which the steps differ. The rest is not \
attributed to an operation. Tried: another size of the pieces of a kernel's gradient.

**Dispatch of 6 arrays: 1.30 times the floor (goal 1.2)** in the table above, which is older than the remedy. The \
arithmetic is not the reason. The floor's own step takes 1.19 times the CPU time if its arrays are in a State and in \
the NamedTuples of optax; ours takes 1.01 if its arrays are in one list, although it has four more. The loop \
therefore carries a list between two steps. Alternating in one process, on a machine with other work, its step and \
batches took 1.17 of the floor's CPU time, and 1.16 of its time; reading and checking the batches is .15 of this."""


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
        "f32. Ours, the floor and contenders with *-kept* have an allocator that keeps freed memory, the others have "
        "the default. A ratio is the median of same-round ratios; below 1.00 in the column *ours by it* we are ahead. "
        "The interval beside it consists of order statistics of these ratios. It covers the true median with a "
        "probability of .9 or more, if there are at least five (the least and the most of four: .88, of three: .75).",
        f"A turn is stable if the host took at most {stability.STEAL:.0%} of the cores and other processes at most "
        f"{stability.FOREIGN:.0%}, its parts differ by a factor of at most {stability.SPREAD}, and its CPU time is "
        f"within a factor of {stability.CPU} of the contender's median. Others are left out and repeated, up to a "
        "limit. Where too few are stable, all count, and NOT STABLE says that the figures are not to be quoted. "
        "Earlier measurements, whose turns were not judged, say NOT QUIET instead.",
    ]
    for where, works in places.items():
        newest = max(works.values(), key=lambda line: line["time"])
        software = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
        parts += [f"## {where}", f"{newest['machine']['system']}; {software}."]
        parts += [table(line) for line in works.values()]
    parts.append(LIMITS)
    return "\n\n".join(parts) + "\n"
