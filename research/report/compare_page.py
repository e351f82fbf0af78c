"""Present a comparison: the verdict in sentences, tables as text, and a page."""

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research.html.document import document, write_page
from research.html.markup import Html, details, element, format_number, join, section, shortened, table, with_errors
from research.metrics.difference import Difference
from research.report.compare import LEVEL, Comparison, Line
from research.report.direction import better, numbers
from research.report.groups import Group, seed_of, source_diff
from research.report.overlay import overlaid
from research.runs.reader import Run

MANY = 12  # most lines of the slice table in text output


def verdict(found: Comparison) -> list[str]:
    """Return the verdict on the main metric, one or two sentences for each group: the winner, if there is one."""
    if found.one_recipe:
        runs = [run for group in found.groups for run in group.runs]
        why = "differ by seed only" if len({seed_of(run) for run in runs}) > 1 else "have the same recipe and seed"
        return [f"No winner: the runs {why}. {found.metric}: {spread(runs, found.metric)}."]
    return [_verdict_on(found, line) for line in found.headline]


def spread(runs: Sequence[Run], metric: str) -> str:
    """Format a metric over the seeds of a recipe as `mean ± standard error (n = runs)`, or as the value of one run."""
    return spreads([runs], metric)[0]


def spreads(groups: Sequence[Sequence[Run]], metric: str) -> list[str]:
    """Return the `spread` of each group, all with the same decimals."""
    found = [[value for run in runs if (value := numbers(run).get(metric)) is not None] for runs in groups]
    means = [float(np.mean(values)) if values else None for values in found]
    errors = [float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None for values in found]
    texts = zip(with_errors(means, errors), found, strict=True)
    return [f"{text} (n = {len(values)})" if len(values) > 1 else text for text, values in texts]


def _verdict_on(comparison: Comparison, line: Line) -> str:
    base = comparison.groups[0]
    new = next(group for group in comparison.groups if group.name == line.group)
    if line.difference is None:
        return f"No winner: {comparison.metric} was not tested between {base.name} and {new.name}, because {line.why}."
    several_seeds = max(len(base.runs), len(new.runs)) > 1
    measured = (
        f"{comparison.metric}: {base.name} {format_number(line.base)}, {new.name} {format_number(line.new)}; "
        f"difference {signed(line.difference.value)}, 95 % interval {interval(line.difference)}, p {p_value(line.p)} "
        f"({line.difference.test})."
    )
    result = line.shown
    if result and comparison.better:
        result = "better" if result == comparison.better else "worse"
    if several_seeds:
        start = f"{new.name} is {result}." if result else "No winner: the difference is not significant."
        return f"{start} {measured}"
    if result:
        return (
            f"No winner between recipes: each has one seed. Of these two networks, {new.name} is {result}. "
            f"{measured} Other seeds may reverse the result; train several seeds of each recipe."
        )
    return f"No winner: the difference between these two networks is not significant. {measured}"


def signed(value: float) -> str:
    """Format a difference with its sign and at most four significant digits."""
    return "0" if value == 0 else f"{value:+.4g}" if abs(value) >= 1e-3 else f"{value:+.2g}"


def interval(difference: Difference) -> str:
    """Format the confidence interval of a difference as `[low, high]`."""
    return f"[{signed(difference.low)}, {signed(difference.high)}]"


def p_value(p: float) -> str:
    """Format a p-value as `= 0.012`, `< 0.001` or, for NaN, a dash; never as 0."""
    return "–" if p != p else "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def format_comparison(found: Comparison) -> str:
    """Format the comparison as text."""
    names = [chr(ord("A") + i) for i in range(len(found.groups))]  # names of runs are too long for a console
    letters = dict(zip([group.name for group in found.groups], names, strict=True))
    head = functools.partial(_table_head, names)
    cells = lambda line: _cells(line, several=len(names) > 2, name=letters[line.group])
    lines = [f"{name}  {group.name}: {described(group)}" for name, group in zip(names, found.groups, strict=True)]
    if found.differs:
        lines += ["", *_aligned(["kind", "setting", *names], [[d.kind, d.name, *[shortened(v, 40) for v in d.values]]
                                                          for d in found.differs])]  # fmt: skip
    if found.one_recipe or _has_seeds(found):
        lines += ["", *_aligned(["metric", *names], _spreads(found))]
    if not found.one_recipe:
        table_lines = _aligned(head("metric"), [cells(line) for line in found.metrics])
        lines += ["", *table_lines, *untested(found.metrics)]
    if tested := [line for line in found.slices if line.difference]:
        shown = [line for line in tested if line.shown]
        lines += ["", f"{len(shown)} of {len(tested)} slices differ significantly{':' if shown else '.'}"]
        lines += _aligned(head("slice"), [cells(line) for line in shown[:MANY]]) if shown else []
        lines += [f"... and {len(shown) - MANY} more"] * (len(shown) > MANY)
    return "\n".join([*lines, "", *found.remarks, *verdict(found)])


def _has_seeds(result: Comparison) -> bool:
    return any(len(group.runs) > 1 for group in result.groups)


def _spreads(result: Comparison) -> list[list[str]]:
    metrics = dict.fromkeys(name for group in result.groups for run in group.runs for name in numbers(run))
    names = sorted(metrics, key=lambda name: name != result.metric)
    return [[name, *spreads([group.runs for group in result.groups], name)] for name in names]


def described(group: Group) -> str:
    """Describe a group by its experiment, seeds and folders."""
    experiment = group.runs[0].about.get("experiment", "?")
    seeds = ", ".join(str(seed_of(run)) for run in group.runs)
    folders = group.runs[0].folder if len(group.runs) == 1 else f"{len(group.runs)} runs, {group.runs[0].folder} ..."
    return f"{experiment}, seed{'s' * (len(group.runs) > 1)} {seeds}: {folders}"


def _table_head(names, first) -> list[str]:
    """The columns; a comparison of two groups has one for each, one of several names the group in each row."""
    base, *new = names
    columns = [base, *new] if len(new) == 1 else ["run", base, "value"]
    return [first, *columns, "difference", "95 % interval", "p (Holm)", "significant"]


def _cells(line: Line, *, several: bool, name: str) -> list[str]:
    difference = line.difference
    statistics = ["–", "–", "–"]
    if difference:
        statistics = [signed(difference.value), interval(difference), p_value(line.p).removeprefix("= ")]
    return [
        line.what,
        *[name] * several,
        format_number(line.base),
        format_number(line.new),
        *statistics,
        ", ".join(filter(None, _outcome(line))),
    ]


def _outcome(line: Line) -> tuple[str, str]:
    """Return (higher or lower, better or worse); "" if the difference is not significant or the direction unknown."""
    better_side = better(line.what.split(",")[0])
    return line.shown, "" if not line.shown or not better_side else "better" if line.shown == better_side else "worse"


def _aligned(head, rows) -> list[str]:
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    return ["  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]


def write(found: Comparison, out=None) -> Path:
    """Write the page to `out` and return its path.

    The default is report/compare-NAMES.html in the folder of the first run, with the names of the other runs. The page
    is a single file that loads nothing from the network. Raises UserError if it cannot be written.
    """
    path = Path(out) if out else found.groups[0].runs[0].folder / "report" / f"compare-{_others(found)}.html"
    return write_page(document(f"comparison by {found.metric}", join(_parts(found))), path)


def _others(found: Comparison) -> str:
    """The names of all runs but the first, as a part of a file name; long lists end in a hash."""
    names = "-".join(run.folder.name for run in [run for group in found.groups for run in group.runs][1:])
    return names if len(names) <= 120 else f"{names[:110]}-{zlib.crc32(names.encode()):08x}"


def _parts(result: Comparison) -> list:
    names = [group.name for group in result.groups]
    experiments = dict.fromkeys(str(group.runs[0].about.get("experiment", "?")) for group in result.groups)
    title = f"Comparison: {', '.join(experiments)}"
    return [
        element("header", element("h1", title), element("p", f"Main metric: {result.metric}")),
        *[element("p", sentence, class_="verdict") for sentence in verdict(result)],
        *[element("p", remark, class_="remark") for remark in result.remarks],
        section("Runs", _runs(result)),
        section("Differences in settings", *_differs(result, names)),
        section("Metrics", *_numbers(result, names)),
        section("Learning curves", *_curves(result)),
        section("Slices", *_slices(result)) if result.slices and not result.one_recipe else "",
    ]


def _differs(result, names) -> list:
    rows = [[d.kind, d.name, *[element("span", shortened(v, 300), class_="whole" * (len(v) < 20)) for v in d.values]]
            for d in result.differs]  # fmt: skip
    base, *rest = result.groups
    sources = [(group.name, source_diff(base.runs[0], group.runs[0], names=(base.name, group.name))) for group in rest]
    diffs = [details(f"Source diff: {base.name} and {name}", element("pre", text)) for name, text in sources if text]
    no_difference = "Only the seed differs." if result.one_recipe else "No recorded setting differs."
    return [table(["kind", "setting", *names], rows) if rows else element("p", no_difference), *diffs]


def _numbers(result, names) -> list:
    method = f"The difference is the value of the other run minus that of {names[0]}. {METHOD}"
    parts = [element("p", UNTESTED if result.one_recipe else method, class_="remark")]
    if result.one_recipe or _has_seeds(result):
        parts += [table(["metric", *names], _spreads(result), numeric=names)]
        parts += [element("p", "Mean ± standard error over seeds.", class_="remark")] if _has_seeds(result) else []
    return parts if result.one_recipe else [*parts, _line_table(result, "metric", result.metrics)]


def _slices(result) -> list:
    """The slices that differ significantly; the others are collapsed."""
    shown, rest = ([line for line in result.slices if bool(line.shown) is wanted] for wanted in (True, False))
    first = _line_table(result, "slice", shown) if shown else element("p", "No slice differs significantly.")
    title = f"{len(rest)} slices without a significant difference"
    return [first, details(title, _line_table(result, "slice", rest)) if rest else ""]


def _labels(result) -> dict[str, str]:
    """The name of each group in a legend, with its first knobs that differ."""
    labels = {}
    for i, group in enumerate(result.groups):
        knobs = [f"{d.name}={d.values[i]}" for d in result.differs if d.kind == "knob" and d.values[i]]
        labels[group.name] = shortened(": ".join([group.name, *[", ".join(knobs)] * bool(knobs)]), 56)
    return labels


def _curves(result) -> list:
    plots = [element("div", Html(plot), class_="plot") for plot in overlaid(result.groups, _labels(result))]
    caption = "Lines show the mean over the seeds of a recipe. Bands show the minimum and maximum."
    return (
        [element("div", *plots, class_="plots"), element("p", caption, class_="remark") if _has_seeds(result) else ""]
        if plots
        else []
    )


METHOD = (
    f"It is significant if its p-value, corrected by Holm's method, is below {LEVEL}. "
    "The main metric is corrected for the number of groups; the others are corrected for the number of rows in their "
    "table. McNemar's "
    "test and the paired bootstrap use the same examples and compare two networks. Welch's test over seeds compares "
    "two recipes on this evaluation set. Intervals are not corrected."
)
UNTESTED = "All runs share one recipe. Their metrics differ by chance and are not tested."


def _runs(result: Comparison) -> Html:
    rows = [
        [element("b", group.name), run.folder.name, seed_of(run), run.status.get("status", "not started"),
         run.status.get("step", ""), format_number(numbers(run).get(result.metric))]
        for group in result.groups for run in group.runs
    ]  # fmt: skip
    head = ["group", "run", "seed", "status", "step", result.metric]
    return table(head, rows, numeric=("seed", "step", result.metric))


def _line_table(result: Comparison, first: str, lines) -> Html:
    names = [group.name for group in result.groups]
    head, several = _table_head(names, first), len(names) > 2
    rows = []
    for line in lines:
        cells: list = _cells(line, several=several, name=line.group)
        colour = {"better": "badge met", "worse": "badge missed"}.get(_outcome(line)[1], "badge")
        cells[-1] = element("span", cells[-1], class_=colour) if line.shown else ""
        rows.append(cells)
    return join(
        [
            table(head, rows, numeric=head[1 + several : -1]),
            *[element("p", w, class_="remark") for w in untested(lines)],
        ]
    )


def untested(lines: Sequence[Line]) -> list[str]:
    """Return one sentence per reason for a missing test, with the metrics that it concerns."""
    reasons = dict.fromkeys(line.why for line in lines if line.why)
    return [
        f"Not tested: {', '.join(dict.fromkeys(line.what for line in lines if line.why == why))}. Reason: {why}."
        for why in reasons
    ]
