"""Runs held against each other: what they differ in, by how much their numbers differ, and whether that is chance."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.metrics.difference import Difference, holm, mcnemar, over_seeds, paired_bootstrap, welch
from research.report.direction import better, main_metric, named, numbers
from research.report.groups import Differs, Group, alike, differences, grouped, seed_of
from research.report.rows import parted, scores, unlike
from research.runs.reader import Run, read_run

LEVEL = 0.05  # of a false alarm


class Line(NamedTuple):
    """One number of one group beside that of the first: `what` is "test/accuracy" or a slice of it.

    `base` and `new` are means over seeds. `difference` is None where nothing could be tested, and `why` then says the
    reason; `p` is corrected for all lines of its table. `shown` is "higher", "lower" or "" where no difference is.
    """

    group: str
    what: str
    base: float | None
    new: float | None
    difference: Difference | None = None
    p: float = math.nan
    shown: str = ""
    why: str = ""


class Comparison(NamedTuple):
    """Groups of runs beside the first of them. `metric` is the main one and `headline` a Line of it for each group;
    `one_recipe` says that the runs differ by seed only, so that nothing is tested and nobody wins.
    """

    groups: list[Group]
    one_recipe: bool
    metric: str
    better: str | None
    differs: list[Differs]
    headline: list[Line]
    metrics: list[Line]
    slices: list[Line]
    remarks: list[str]


class Judged(NamedTuple):
    """Whether a regression is `shown`; in words; and the difference with its 90 % interval."""

    shown: bool
    text: str
    difference: Difference


def compare(
    folders: Sequence, *, metric: str | None = None, independent: bool = False, same_code: bool = False
) -> Comparison:
    """Compares run folders with the first of them: a group of one seed with a group of one seed by their rows, else
    by the values of the seeds.

    Two groups of one run each: McNemar's exact test for the accuracy and the paired bootstrap for every other number
    that is a mean over rows (loss, brier, mse, mae, ...), on the same evaluation rows. This speaks of two networks.
    Groups of several seeds: Welch's t-test over seeds. This speaks of the recipes, on this evaluation set. P-values
    are corrected by Holm's method over the groups (`headline`) and over all lines of a table (`metrics`, `slices`); a
    difference is shown where that is below 0.05. `metric` is the main one, by default that of the first claim; slices
    are of its set: those of `sliced`, and the classes.

    Runs of one recipe that differ by seed only are laid side by side, and nothing is tested. `same_code` groups runs
    of different commits. Raises UserError for fewer than two runs, an unknown metric, and evaluation sets that are
    not the same: `independent=True` compares them as different examples.
    """
    if len(folders) < 2:
        raise UserError(f"a comparison is of two runs or more; given is {len(folders)}.")
    runs = [read_run(folder) for folder in folders]
    groups = columns(runs, same_code=same_code)
    one_recipe = alike(runs, same_code=same_code)
    known = {name: value for group in groups for run in group.runs for name, value in numbers(run).items()}
    if not known:
        raise UserError(f"none of the {len(runs)} runs has an evaluation yet; there is nothing to compare.")
    claims = [claim for run in runs for claim in run.about.get("claims") or ()]
    in_all = [name for name in known if all(name in numbers(run) for run in runs)]
    metric = named(metric, known) if metric else main_metric(claims, in_all or known)
    base, *others = groups
    testing = [] if one_recipe else others
    for group in testing:
        check_sets(base, group, independent=independent)
    tested = {"tests": not one_recipe, "independent": independent}
    names = sorted(known, key=lambda name: (name != metric, name.partition("/")[0] != metric.partition("/")[0]))
    of, _, kind = metric.partition("/")
    return Comparison(
        groups, one_recipe, metric, better(metric, claims), differences(groups),
        corrected([line(base, group, metric, **tested) for group in others]),
        corrected([line(base, group, name, **tested) for name in names for group in others]),
        corrected([found for group in others for found in slice_lines(base, group, of, kind, **tested)]),
        _remarks(runs, groups, one_recipe=one_recipe, independent=independent),
    )  # fmt: skip


def columns(runs: Sequence[Run], *, same_code: bool = False) -> list[Group]:
    """The groups that stand side by side: the recipes; but two runs are two, also where only their seeds differ."""
    if len(runs) == 2 and alike(runs, same_code=same_code):
        if runs[0].folder.resolve() == runs[1].folder.resolve():
            raise UserError(f"{runs[0].folder} is given twice; a run does not differ from itself.")
        return [Group("A", [runs[0]]), Group("B", [runs[1]])]
    return grouped(runs, same_code=same_code)


def no_regression(
    folders: Sequence, *, metric: str | None = None, margin: float = 0.0, independent: bool = False,
    same_code: bool = False,
) -> Judged:  # fmt: skip
    """Whether the second of two groups (of two runs: the second run) is shown to be worse than the first.

    A regression is shown where the one-sided 95 % confidence bound of new minus base lies on the worse side of
    -`margin` (in units of the metric, 0 or more; for a metric where lower is better, above +`margin`): by the test
    that `compare` takes. With no true loss beyond the margin it is shown in 5 % of comparisons or fewer. What is not
    shown is not shown to be equal: few examples or seeds show little.

    One seed on each side compares two networks, and networks differ by their seed as well: give several seeds of each
    recipe where one may be reshuffled against the other. Two runs that differ by seed only are never a regression.

    Raises UserError where a run has not finished, there are not two groups, nobody can tell which direction is better,
    or the metric has no rows to test and a single seed on each side.
    """
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.status.get("status") != "finished":
            raise UserError(f"{run.folder} is {run.status.get('status', 'not begun')}; expected a finished run.")
    groups = columns(runs, same_code=same_code) if len(runs) > 1 else []
    if len(groups) != 2:
        raise UserError(f"no-regression is of two runs or two recipes with several seeds; given are {len(groups)}.")
    if not 0 <= margin < math.inf:
        raise UserError(f"the margin is {margin}; expected 0 or more, in units of the metric.")
    claims = [claim for run in runs for claim in run.about.get("claims") or ()]
    known = numbers(runs[0])
    metric = named(metric, known) if metric else main_metric(claims, known)
    if metric is None:
        raise UserError(f"{runs[0].folder} has no evaluation with a finite number; there is nothing to compare.")
    direction = better(metric, claims)
    if direction is None:
        raise UserError(f"nobody can tell whether more {metric} is better: claim at_least or at_most of it.")
    check_sets(*groups, independent=independent)
    found = line(*groups, metric, tests=True, independent=independent, confidence=1 - 2 * LEVEL)
    if found.difference is None:
        raise UserError(f"{metric} cannot be tested: {found.why}.")
    low, high, sign = found.difference.low, found.difference.high, 1 if direction == "higher" else -1
    by_seed = alike(runs, same_code=same_code) and seed_of(runs[0]) != seed_of(runs[1])
    shown = (high if sign == 1 else -low) < -margin and not by_seed
    of = "networks" if all(len(group.runs) == 1 for group in groups) else "recipes"
    bound = f"{'at most' if sign == 1 else 'at least'} {high if sign == 1 else low:+.4g}"
    text = (
        f"{'a regression is shown' if shown else 'no regression is shown'}: {metric} {found.base:.4g} -> "
        f"{found.new:.4g} ({found.difference.value:+.4g}; with 95 % confidence {bound}, margin {margin:g}; "
        f"{found.difference.test}, of two {of}{'; the runs differ by seed only, which is no regression' * by_seed})"
    )
    return Judged(shown, text, found.difference)


def check_sets(base: Group, new: Group, *, independent: bool):
    """Raises UserError where an evaluation that both groups have was not of the same examples."""
    if independent:
        return
    first = base.runs[0]
    for run in [*base.runs[1:], *new.runs]:
        for of in set(first.evaluations) & set(run.evaluations):
            if why := unlike(first.evaluations[of], run.evaluations[of]):
                raise UserError(
                    f"the rows of {of!r} do not pair: {why} in {first.folder} and {run.folder}. These are different "
                    "evaluation sets; compare them as such with --independent."
                )


def line(base: Group, new: Group, metric: str, *, tests: bool, independent: bool, confidence: float = 0.95) -> Line:
    """The Line of one number ("test/accuracy") of two groups."""
    values = [[numbers(run).get(metric) for run in group.runs] for group in (base, new)]
    values = [[v for v in found if v is not None] for found in values]
    of, _, kind = metric.partition("/")
    rows = [scores(g.runs[0].evaluations[of]).get(kind) if of in g.runs[0].evaluations else None for g in (base, new)]
    return _line(new.name, metric, values, rows, tests=tests, independent=independent, confidence=confidence)


def slice_lines(base: Group, new: Group, of: str, kind: str, *, tests: bool, independent: bool) -> list[Line]:
    """A Line for each slice of the set `of`: of the metric `kind` where it is a mean over examples, else of the
    accuracy or the loss; none where no slice or no such row was kept.
    """
    runs = [*base.runs, *new.runs]
    if not all(of in run.evaluations for run in runs):
        return []
    found = [scores(run.evaluations[of]) for run in runs]
    kind = next((k for k in (kind, "accuracy", "loss", "mse") if k != "auc" and all(k in one for one in found)), None)
    if kind is None:
        return []
    parts = [parted(run.evaluations[of]) for run in runs]
    lines = []
    for by, (names, _) in parts[0].items():
        if not all(by in other and list(other[by][0]) == list(names) for other in parts):
            continue
        for k, name in enumerate(names):
            rows = [one[kind][ways[by][1] == k] for one, ways in zip(found, parts, strict=True)]
            if not all(len(one) for one in rows):
                continue
            means = [float(one.mean()) for one in rows]
            here = len(base.runs)
            lines.append(_line(
                new.name, f"{kind}, {by} {name}", [means[:here], means[here:]], [rows[0], rows[here]], tests=tests,
                independent=independent, confidence=0.95,
            ))  # fmt: skip
    return lines


def corrected(lines: list[Line]) -> list[Line]:
    """The lines with p-values corrected for all of them at once, and what is shown by them."""
    ps = holm([line.difference.p if line.difference else math.nan for line in lines])
    sides = ["" if not p < LEVEL else "higher" if line.difference.value > 0 else "lower"
             for line, p in zip(lines, ps, strict=True)]  # fmt: skip
    return [line._replace(p=float(p), shown=side) for line, p, side in zip(lines, ps, sides, strict=True)]


def _line(group, what, values, rows, *, tests, independent, confidence):
    means = [sum(found) / len(found) if found else None for found in values]
    found, why = None, ""
    if not tests:
        why = "the runs differ by seed only"
    elif None in means:
        why = "only one side has it"
    elif len(values[0]) + len(values[1]) > 2:
        found = over_seeds(*values, confidence=confidence)
    elif rows[0] is None or rows[1] is None:
        why = "it is no mean over rows that were kept, and there is one seed on each side"
    elif independent:
        found = welch(*rows, confidence=confidence) if min(map(len, rows)) > 1 else None
    elif set(np.unique(np.concatenate(rows))) <= {0.0, 1.0}:
        found = mcnemar(*rows, confidence=confidence)
    else:
        found = paired_bootstrap(*rows, confidence=confidence) if len(rows[0]) > 1 else None
    return Line(group, what, *means, found, why=why if why or found else "there is a single example")


def _remarks(runs, groups, *, one_recipe, independent) -> list[str]:
    said = [f"{run.folder.name}: {problem}" for run in runs for problem in run.problems]
    for run in runs:
        word = run.status.get("status", "not begun")
        if word != "finished":
            step = run.status.get("step", 0)
            said.append(f"{run.folder.name} is {word} at step {step}: its numbers are not its last.")
    if independent:
        said.append(
            "Evaluation sets are compared as different examples, as asked: only larger differences can be shown."
        )
    return said
