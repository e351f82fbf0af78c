"""Compare runs with a baseline: changed settings, differences of metrics, and statistical tests of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.metrics.difference import Difference, holm, mcnemar, over_seeds, paired_bootstrap, welch
from research.report.direction import better, main_metric, named, numbers
from research.report.groups import Differs, Group, alike, differences, grouped, named_groups, seed_of
from research.report.rows import parted, scores, unlike
from research.runs.reader import Run, read_run

LEVEL = 0.05  # significance level


class Line(NamedTuple):
    """One metric, or one slice of it, of a group compared with the baseline group.

    `what` names it: "test/accuracy" or "accuracy, class 3". `base` and `new` are means over seeds. `difference` is None
    if no test was possible, and `why` gives the reason. `p` is corrected for all lines of its table. `shown` is
    "higher" or "lower" for a significant difference, otherwise "".
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
    """Groups of runs compared with the first group, the baseline.

    `metric` is the main metric, and `headline` has one Line of it per other group. If `one_recipe`, all runs share one
    recipe: they differ by seed only, nothing is tested, and there is no winner.
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
    """The result of `no_regression`: whether a regression is `shown`, a summary, and the difference.

    The interval of `difference` is at 90 %, so that each of its ends is a one-sided 95 % bound.
    """

    shown: bool
    text: str
    difference: Difference


def compare(
    folders: Sequence, *, metric: str | None = None, independent: bool = False, same_code: bool = False
) -> Comparison:
    """Compare run folders with the first one, grouped by recipe, and test the differences.

    Two groups of one run each are tested on the rows of the same evaluation set: McNemar's exact test for accuracy, the
    paired bootstrap for every other metric that is a mean over rows (loss, brier, mse, mae, ...). The result holds for
    these two networks only. If either group has several seeds, Welch's t-test over seeds compares the recipes on this
    evaluation set. P-values are corrected by Holm's method: those of the main metric over the groups, those of all
    other metrics together, and those of all slices together. A difference is significant if its corrected p-value is
    below 0.05.

    `metric` is the main metric, by default the metric of the first claim. Slices are of its evaluation set: the slices
    of `sliced` and the classes. Runs of one recipe are listed without a test. `same_code` ignores commits and
    uncommitted changes when runs are grouped. `independent=True` compares evaluation sets of different examples.

    Raises UserError for fewer than two runs, runs without an evaluation, an unknown metric, and rows of different
    examples (unless `independent`).
    """
    if len(folders) < 2:
        raise UserError(f"a comparison needs two runs or more; got {len(folders)}.")
    runs = [read_run(folder) for folder in folders]
    groups = columns(runs, same_code=same_code)
    one_recipe = alike(runs, same_code=same_code)
    metrics = {name: value for group in groups for run in group.runs for name, value in numbers(run).items()}
    if not metrics:
        raise UserError(f"none of the {len(runs)} runs has an evaluation yet; there is nothing to compare.")
    claims = [claim for run in runs for claim in run.about.get("claims") or ()]
    in_all = [name for name in metrics if all(name in numbers(run) for run in runs)]
    metric = named(metric, metrics) if metric else main_metric(claims, in_all or metrics)
    base, *new_groups = groups
    tested_groups = [] if one_recipe else new_groups
    for group in tested_groups:
        check_sets(base, group, independent=independent)
    options = {"tests": not one_recipe, "independent": independent}
    names = sorted(metrics, key=lambda name: (name != metric, name.partition("/")[0] != metric.partition("/")[0]))
    set_name, _, metric_name = metric.partition("/")
    headline = corrected([line(base, group, metric, **options) for group in new_groups])
    return Comparison(
        groups, one_recipe, metric, better(metric, claims), differences(groups),
        headline,
        headline + corrected([line(base, group, name, **options) for name in names[1:] for group in new_groups]),
        corrected([row for group in new_groups for row in slice_lines(base, group, set_name, metric_name, **options)]),
        _remarks(runs, groups, one_recipe=one_recipe, independent=independent),
    )  # fmt: skip


def columns(runs: Sequence[Run], *, same_code: bool = False) -> list[Group]:
    """Group the runs by recipe; two runs of one recipe form two groups of one run each."""
    if len(runs) == 2 and alike(runs, same_code=same_code):
        if runs[0].folder.resolve() == runs[1].folder.resolve():
            raise UserError(f"{runs[0].folder} is given twice. Give two different runs.")
        return named_groups([[run] for run in runs])
    return grouped(runs, same_code=same_code)


def no_regression(
    folders: Sequence, *, metric: str | None = None, margin: float = 0.0, independent: bool = False,
    same_code: bool = False,
) -> Judged:  # fmt: skip
    """Test whether the second of two groups of runs is significantly worse than the first.

    The test is the one that `compare` uses. A regression is shown if the one-sided 95 % confidence bound of new minus
    base is below -`margin`, or above +`margin` for a metric where lower is better. `margin` is in units of the metric,
    0 or more. If the true loss does not exceed the margin, at most 5 % of comparisons show a regression. The absence of
    a shown regression does not prove equality: with few examples or seeds, the test has little power.

    With one seed on each side, the test compares two networks, which differ by their seeds as well. Give several seeds
    of each recipe to compare recipes. Two runs that differ by seed only are never a regression.

    Raises UserError if a run has not finished, there are not exactly two groups, the better direction of the metric is
    unknown, or the metric cannot be tested (one seed on each side and no stored rows).
    """
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.status.get("status") != "finished":
            raise UserError(f"{run.folder} is {run.status.get('status', 'not started')}; expected a finished run.")
    groups = columns(runs, same_code=same_code) if len(runs) > 1 else []
    if len(groups) != 2:
        raise UserError(f"--no-regression compares two runs or two recipes with several seeds; got {len(groups)}.")
    if not 0 <= margin < math.inf:
        raise UserError(f"the margin is {margin}; expected a finite number of 0 or more, in units of the metric.")
    claims = [claim for run in runs for claim in run.about.get("claims") or ()]
    metrics = numbers(runs[0])
    metric = named(metric, metrics) if metric else main_metric(claims, metrics)
    if metric is None:
        raise UserError(f"{runs[0].folder} has no evaluation with a finite number; there is nothing to compare.")
    direction = better(metric, claims)
    if direction is None:
        raise UserError(f"whether higher or lower {metric} is better is unknown; claim at_least or at_most for it.")
    check_sets(*groups, independent=independent)
    result = line(*groups, metric, tests=True, independent=independent, confidence=1 - 2 * LEVEL)
    if result.difference is None:
        raise UserError(f"{metric} cannot be tested: {result.why}.")
    low, high, sign = result.difference.low, result.difference.high, 1 if direction == "higher" else -1
    by_seed = alike(runs, same_code=same_code) and seed_of(runs[0]) != seed_of(runs[1])
    shown = (high if sign == 1 else -low) < -margin and not by_seed
    subject = "networks" if all(len(group.runs) == 1 for group in groups) else "recipes"
    bound = f"{'at most' if sign == 1 else 'at least'} {high if sign == 1 else low:+.4g}"
    text = (
        f"{'regression' if shown else 'no regression shown'}: {metric} {result.base:.4g} -> "
        f"{result.new:.4g} ({result.difference.value:+.4g}; 95 % bound: {bound}; margin {margin:g}; "
        f"{result.difference.test}, two {subject}{'; the runs differ by seed only: no regression' * by_seed})"
    )
    return Judged(shown, text, result.difference)


def check_sets(base: Group, new: Group, *, independent: bool):
    """Raise UserError if an evaluation that both groups share was made on different examples."""
    if independent:
        return
    first = base.runs[0]
    for run in [*base.runs[1:], *new.runs]:
        for set_name in set(first.evaluations) & set(run.evaluations):
            if reason := unlike(first.evaluations[set_name], run.evaluations[set_name]):
                raise UserError(
                    f"the rows of {set_name!r} cannot be paired: {reason} in {first.folder} and {run.folder}. The "
                    "evaluation sets have different examples; pass --independent to compare them anyway."
                )


def line(base: Group, new: Group, metric: str, *, tests: bool, independent: bool, confidence: float = 0.95) -> Line:
    """Return the Line of one metric ("test/accuracy") of two groups."""
    values = [[numbers(run).get(metric) for run in group.runs] for group in (base, new)]
    values = [[v for v in seeds if v is not None] for seeds in values]
    set_name, _, name = metric.partition("/")
    first = [group.runs[0].evaluations for group in (base, new)]
    rows = [scores(evaluations[set_name]).get(name) if set_name in evaluations else None for evaluations in first]
    return _line(new.name, metric, values, rows, tests=tests, independent=independent, confidence=confidence)


def slice_lines(base: Group, new: Group, of: str, kind: str, *, tests: bool, independent: bool) -> list[Line]:
    """Return a Line for each slice of the evaluation set `of`.

    The metric is `kind` if it is a mean over examples (AUC is not), otherwise accuracy, loss or mse. Returns [] if the
    runs stored no such rows. Slices that differ between the runs, or are empty in one of them, are omitted.
    """
    runs = [*base.runs, *new.runs]
    if not all(of in run.evaluations for run in runs):
        return []
    per_run = [scores(run.evaluations[of]) for run in runs]
    kind = next((k for k in (kind, "accuracy", "loss", "mse") if k != "auc" and all(k in s for s in per_run)), None)
    if kind is None:
        return []
    parts = [parted(run.evaluations[of]) for run in runs]
    lines = []
    for by, (names, _) in parts[0].items():
        if not all(by in other and list(other[by][0]) == list(names) for other in parts):
            continue
        for k, name in enumerate(names):
            rows = [s[kind][slices[by][1] == k] for s, slices in zip(per_run, parts, strict=True)]
            if not all(len(s) for s in rows):
                continue
            means = [float(s.mean()) for s in rows]
            n = len(base.runs)
            lines.append(_line(
                new.name, f"{kind}, {by} {name}", [means[:n], means[n:]], [rows[0], rows[n]], tests=tests,
                independent=independent, confidence=0.95,
            ))  # fmt: skip
    return lines


def corrected(lines: list[Line]) -> list[Line]:
    """Return the lines with p-values corrected by Holm's method, and with `shown` set for significant differences."""
    ps = holm([line.difference.p if line.difference else math.nan for line in lines])
    sides = ["" if not p < LEVEL else "higher" if line.difference.value > 0 else "lower"
             for line, p in zip(lines, ps, strict=True)]  # fmt: skip
    return [line._replace(p=float(p), shown=side) for line, p, side in zip(lines, ps, sides, strict=True)]


def _line(group, what, values, rows, *, tests, independent, confidence):
    means = [sum(seeds) / len(seeds) if seeds else None for seeds in values]
    difference, reason = None, ""
    if not tests:
        reason = "the runs differ by seed only"
    elif None in means:
        reason = "only one side has this metric"
    elif len(values[0]) + len(values[1]) > 2:
        difference = over_seeds(*values, confidence=confidence)
    elif rows[0] is None or rows[1] is None:
        reason = "it is not a mean over stored rows, and each side has one seed"
    elif independent:
        difference = welch(*rows, confidence=confidence) if min(map(len, rows)) > 1 else None
    elif set(np.unique(np.concatenate(rows))) <= {0.0, 1.0}:
        difference = mcnemar(*rows, confidence=confidence)
    else:
        difference = paired_bootstrap(*rows, confidence=confidence) if len(rows[0]) > 1 else None
    return Line(group, what, *means, difference, why=reason if reason or difference else "there is only one example")


def _remarks(runs, groups, *, one_recipe, independent) -> list[str]:
    remarks = [f"{run.folder.name}: {problem}" for run in runs for problem in run.problems]
    for run in runs:
        state = run.status.get("status", "not started")
        if state != "finished":
            step = run.status.get("step", 0)
            remarks.append(f"{run.folder.name} is {state} at step {step}: its results are not final.")
    if independent:
        remarks.append(
            "The evaluation sets are treated as independent (--independent), which lowers the power of the tests."
        )
    return remarks
