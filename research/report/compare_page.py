"""A comparison as it is read: a few sentences, tables on the console, and compare.html."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research.errors import UserError
from research.html.document import document
from research.html.markup import Html, details, element, format_number, join, section, shortened, table
from research.metrics.difference import Difference
from research.report.compare import LEVEL, Comparison, Line
from research.report.direction import better, numbers
from research.report.groups import Group, seed_of, source_diff
from research.report.overlay import overlaid
from research.runs.reader import Run

MANY = 12  # lines of a table on the console


def verdict(found: Comparison) -> list[str]:
    """What can be said of the main metric, a sentence or two for each group: whether there is a winner, and of what."""
    if found.one_recipe:
        runs = [run for group in found.groups for run in group.runs]
        why = "differ by seed only" if len({seed_of(run) for run in runs}) > 1 else "are of the same recipe and seed"
        return [f"No winner: the runs {why}. {found.metric}: {spread(runs, found.metric)}."]
    return [_said(found, line) for line in found.headline]


def spread(runs: Sequence[Run], metric: str) -> str:
    """`mean ± standard error (n = runs)` of a metric over the seeds of a recipe, or its value in a single run."""
    values = [value for run in runs if (value := numbers(run).get(metric)) is not None]
    if len(values) < 2:
        return format_number(values[0]) if values else format_number(None)
    return f"{format_number(np.mean(values))} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2g} (n = {len(values)})"


def _said(found: Comparison, line: Line) -> str:
    base = found.groups[0]
    new = next(group for group in found.groups if group.name == line.group)
    if line.difference is None:
        return f"No winner: {found.metric} of A and {new.name} was not tested: {line.why}."
    seeds = max(len(base.runs), len(new.runs)) > 1
    measured = (
        f"{found.metric} is {format_number(line.base)} of A, {format_number(line.new)} of {new.name}: "
        f"{signed(line.difference.value)}, 95 % interval {interval(line.difference)}, p {p_value(line.p)} "
        f"({line.difference.test})."
    )
    word = line.shown
    if word and found.better:
        word = "better" if word == found.better else "worse"
    if seeds:
        return f"{new.name} is {word}. {measured}" if word else f"No winner: no difference is shown. {measured}"
    if word:
        return (
            f"No winner between recipes: there is one seed of each. Of these two networks {new.name} is {word}. "
            f"{measured} Another seed may turn it; train several of each."
        )
    return f"No winner: no difference between these two networks is shown. {measured}"


def signed(value: float) -> str:
    """A difference with its sign and at most four digits."""
    return "0" if value == 0 else f"{value:+.4g}" if abs(value) >= 1e-3 else f"{value:+.2g}"


def interval(difference: Difference) -> str:
    """`[low, high]`."""
    return f"[{signed(difference.low)}, {signed(difference.high)}]"


def p_value(p: float) -> str:
    """`= 0.012` or `< 0.001`: never a 0, which no p-value is."""
    return "–" if p != p else "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def format_comparison(found: Comparison) -> str:
    """The comparison as the lines of a text."""
    names = [group.name for group in found.groups]
    lines = [f"{group.name}  {described(group)}" for group in found.groups]
    if found.differs:
        lines += ["", *_aligned(["differs", "", *names], [[d.kind, d.name, *[shortened(v, 40) for v in d.values]]
                                                          for d in found.differs])]  # fmt: skip
    if found.one_recipe or _seeds(found):
        lines += ["", *_aligned(["metric", *names], _spreads(found))]
    if not found.one_recipe:
        lines += ["", *_aligned(_head("metric"), [_cells(line) for line in found.metrics]), *untested(found.metrics)]
    if tested := [line for line in found.slices if line.difference]:
        shown = [line for line in tested if line.shown]
        lines += ["", f"{len(shown)} of {len(tested)} slices differ{':' if shown else '.'}"]
        lines += _aligned(_head("slice"), [_cells(line) for line in shown[:MANY]]) if shown else []
        lines += [f"... and {len(shown) - MANY} more"] * (len(shown) > MANY)
    return "\n".join([*lines, "", *found.remarks, *verdict(found)])


def _seeds(found: Comparison) -> bool:
    return any(len(group.runs) > 1 for group in found.groups)


def _spreads(found: Comparison) -> list[list[str]]:
    known = dict.fromkeys(name for group in found.groups for run in group.runs for name in numbers(run))
    names = sorted(known, key=lambda name: name != found.metric)
    return [[name, *[spread(group.runs, name) for group in found.groups]] for name in names]


def described(group: Group) -> str:
    """The experiment, folders and seeds of a group."""
    experiment = group.runs[0].about.get("experiment", "?")
    seeds = ", ".join(str(seed_of(run)) for run in group.runs)
    folders = group.runs[0].folder if len(group.runs) == 1 else f"{len(group.runs)} runs, {group.runs[0].folder} ..."
    return f"{experiment}, seed{'s' * (len(group.runs) > 1)} {seeds}: {folders}"


def _head(first) -> list[str]:
    return [first, "", "A", "other", "difference", "95 % interval", "p (Holm)", "shown"]


def _cells(line: Line) -> list[str]:
    d = line.difference
    tested = [signed(d.value), interval(d), p_value(line.p).removeprefix("= ")] if d else ["–", "–", "–"]
    return [
        line.what,
        line.group,
        format_number(line.base),
        format_number(line.new),
        *tested,
        ", ".join(filter(None, _shown(line))),
    ]


def _shown(line: Line) -> tuple[str, str]:
    """(higher or lower, better or worse), "" where nothing is shown or nobody can tell."""
    good = better(line.what.split(",")[0])
    return line.shown, "" if not line.shown or not good else "better" if line.shown == good else "worse"


def _aligned(head, rows) -> list[str]:
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    return ["  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]


def write(found: Comparison, out=None) -> Path:
    """Writes the page to `out`, by default report/compare.html in the folder of the first run, and gives its path.

    One file that fetches nothing. Raises UserError where it cannot be written.
    """
    path = Path(out) if out else found.groups[0].runs[0].folder / "report" / "compare.html"
    page = document(f"comparison by {found.metric}", join(_parts(found)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(page.encode("utf-8", "replace"))
        part.replace(path)
    except OSError as error:
        raise UserError(f"the comparison cannot be written to {path}: {error.strerror or error}.") from error
    return path


def _parts(found: Comparison) -> list:
    names = [group.name for group in found.groups]
    experiments = list(dict.fromkeys(str(group.runs[0].about.get("experiment", "?")) for group in found.groups))
    return [
        element("header", element("h1", f"Comparison: {', '.join(experiments)}"), element("p", f"by {found.metric}")),
        *[element("p", said, class_="verdict") for said in verdict(found)],
        *[element("p", remark, class_="remark") for remark in found.remarks],
        section("Runs", _runs(found)),
        section("What differs", *_differs(found, names)),
        section("Numbers", *_numbers(found, names)),
        section("Slices", _lines("slice", found.slices)) if found.slices and not found.one_recipe else "",
        section("Learning curves", *_curves(found)),
    ]


def _differs(found, names) -> list:
    rows = [[d.kind, d.name, *[element("span", shortened(v, 300), class_="whole" * (len(v) < 20)) for v in d.values]]
            for d in found.differs]  # fmt: skip
    base, *others = found.groups
    changed = [(group.name, source_diff(base.runs[0], group.runs[0], names=("A", group.name))) for group in others]
    folded = [details(f"source of A and {name}", element("pre", text)) for name, text in changed if text]
    nothing = "Nothing but the seed." if found.one_recipe else "Nothing that was recorded."
    return [table(["kind", "name", *names], rows) if rows else element("p", nothing), *folded]


def _numbers(found, names) -> list:
    parts = [element("p", UNTESTED if found.one_recipe else METHOD, class_="remark")]
    if found.one_recipe or _seeds(found):
        parts += [table(["metric", *names], _spreads(found), numeric=names)]
        parts += [element("p", "Means ± standard errors over seeds.", class_="remark")] if _seeds(found) else []
    return parts if found.one_recipe else [*parts, _lines("metric", found.metrics)]


def _curves(found) -> list:
    plots = [element("div", Html(plot), class_="plot") for plot in overlaid(found.groups)]
    words = "Lines are means over the seeds of a recipe; bands reach from the least to the most of them."
    return (
        [element("div", *plots, class_="plots"), element("p", words, class_="remark") if _seeds(found) else ""]
        if plots
        else []
    )


METHOD = (
    f"The difference is the other minus A. A difference is shown where its p-value, corrected for all lines of the "
    f"table by Holm's method, is below {LEVEL}. McNemar's test and the paired bootstrap take the same examples and "
    "speak of two networks; Welch's test over seeds speaks of two recipes, on this evaluation set. Intervals are not "
    "corrected."
)
UNTESTED = "The runs are of one recipe: their numbers differ by chance, and are not tested."


def _runs(found: Comparison) -> Html:
    rows = [
        [element("b", group.name), run.folder.name, seed_of(run), run.status.get("status", "not begun"),
         run.status.get("step", ""), format_number(numbers(run).get(found.metric))]
        for group in found.groups for run in group.runs
    ]  # fmt: skip
    return table(["", "run", "seed", "status", "step", found.metric], rows, numeric=("seed", "step", found.metric))


def _lines(first: str, lines) -> Html:
    head = _head(first)
    rows = []
    for line in lines:
        cells: list = _cells(line)
        colour = {"better": "badge met", "worse": "badge missed"}.get(_shown(line)[1], "badge")
        cells[-1] = element("span", cells[-1], class_=colour) if line.shown else ""
        rows.append(cells)
    return join([table(head, rows, numeric=head[2:-1]), *[element("p", w, class_="remark") for w in untested(lines)]])


def untested(lines: Sequence[Line]) -> list[str]:
    """A sentence for each reason why lines were not tested, with what they are."""
    reasons = dict.fromkeys(line.why for line in lines if line.why)
    return [
        f"Not tested: {', '.join(dict.fromkeys(line.what for line in lines if line.why == why))}: {why}."
        for why in reasons
    ]
