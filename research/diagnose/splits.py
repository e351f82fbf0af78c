"""Checks of a split: similar distributions, no shared groups or copies, no later rows, no leaks, nothing fitted early.

    check_splits({"train": train, "test": test}, target="income", group="household", time="date")

Each check takes Parts and returns one Outcome.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.data.preparation import origin_of
from research.diagnose.case import Case
from research.diagnose.data import inputs_of
from research.diagnose.finding import Finding
from research.diagnose.leaks import leaking_columns
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.overlaps import copies, groups, time_order
from research.diagnose.parts import Parts, read_parts
from research.diagnose.shifts import LEVEL, distributions, joint_distribution
from research.diagnose.tables import Table
from research.errors import UserError, format_names, unknown
from research.metrics.two_sample import FEW

EXACT, OFF = 2e-5, 1e-4  # deviations of the mean or range of fitted columns, and of columns that were not fitted


def check_splits(
    parts: Mapping[str, Any], *, target: str | None = None, group: str | Sequence[str] | None = None,
    time: str | None = None, level: float = LEVEL, seed: int = 0,
) -> list[Finding]:  # fmt: skip
    """Check the parts of a split, {name: data set}, the training part first, and return findings, problems first.

    parts: data sets, tables of pandas, Polars or Arrow, or dicts of columns (`research.diagnose.parts.read_parts`)
    target: the column to predict; by default that of the table, or "label" or "target"
    group: the columns whose values must not be in two parts, such as the patient
    time: the column by which no training row may be later than a row of another part
    level: the probability of a false alarm of each statistical check, over all columns and parts

    It is a problem if rows, groups or times are on both sides, if a column determines the target, and if columns were
    standardised before the split. Different distributions and other leaks are worth a look.

    Raises UserError for an unknown column, and as `read_parts`.
    """
    outcomes = split_outcomes(
        read_parts(parts, target=target), group=group, time=time, level=level, seed=seed
    )  # fmt: skip
    return sorted((o for o in outcomes.values() if isinstance(o, Finding)), key=lambda finding: not finding.problem)


def split_outcomes(
    parts: Parts, *, group=None, time=None, level: float = LEVEL, seed: int = 0, unused: Sequence[str] = (),
    guess: bool = False,
) -> dict[str, Outcome]:  # fmt: skip
    """Return the Outcome of every check by its rule.

    Columns in `unused` do not reach the model. With `guess`, a single column of dates is taken for the time.
    """
    group = [group] if isinstance(group, str) else list(group or ())
    for what, name in [("group", name) for name in group] + ([("time", time)] if time else []):
        if name not in parts.schema:
            raise unknown(f"column {what}=", name, parts.schema)
    apart = (*group, *([time] if time else []), *unused)
    outcomes = (
        copies(parts, level=level, without=group, seed=seed),
        groups(parts, group),
        time_order(parts, time, guess=guess),
        leaks(parts, unused=unused, seed=seed),
        fitted_before(parts),
        distributions(parts, level=level, without=apart, group=group, seed=seed),
        joint_distribution(parts, level=level, without=apart, group=group, seed=seed),
    )
    return {outcome.rule: outcome for outcome in outcomes}


def of_experiment(case: Case, found: list[Table]) -> dict[str, Outcome]:
    """Return the outcomes for the training source and the evaluations of an experiment by rule.

    If they come from tables, also through preparations, all checks examine their raw rows. Otherwise the fields of
    `found` that reach the model are compared, without tokens, whose distribution differs from text to text.
    """
    evals = {name: evaluation.source.data for name, evaluation in case.experiment.evals.items()}
    data = {"train": case.experiment.source.data, **evals}
    origins = {name: origin_of(records) for name, records in data.items() if records is not None}
    own = origins.get("train")
    same = lambda a, b: a.table is b.table and np.array_equal(a.rows, b.rows)
    names = [name for name, origin in origins.items() if own and origin and (name == "train" or not same(own, origin))]
    unused = case.experiment.preparation.without if case.experiment.preparation else ()
    try:
        if len(names) > 1:
            return split_outcomes(read_parts({name: data[name] for name in names}), unused=unused, guess=True)
        if len(found) < 2 or not found[0].training or found[0].drawn:
            return {
                "distributions": Skipped("distributions", "there are no two data sets with the inputs of the model")
            }
        tokens = lambda values: values.ndim == 2 and values.dtype.kind == "i"
        fields = [name for name in inputs_of(case, found[0]) if not tokens(found[0].fields[name])]
        fields += [name for name in ("label",) if name in found[0].fields and name not in fields]
        parts = read_parts({t.name: {n: t.fields[n] for n in fields if n in t.fields} for t in found})
    except UserError as error:
        return {"distributions": Skipped("distributions", str(error))}
    whole = [part._replace(whole=not table.sampled) for part, table in zip(parts.all, found, strict=True)]
    parts = parts._replace(train=whole[0], others=tuple(whole[1:]))
    outcomes = distributions(parts), joint_distribution(parts), fitted_before(parts)
    return {outcome.rule: outcome for outcome in outcomes}


def leaks(parts: Parts, *, unused=(), seed=0) -> Outcome:
    """Find the columns that predict the target almost alone (`research.diagnose.leaks`), in the training part.

    A problem if a column has no exceptions, otherwise worth a look.
    """
    rule = "label among the features"
    if parts.target is None:
        return Skipped(rule, "no column is the target; name it: target=")
    columns = {name: values for name, values in parts.train.columns.items() if name not in unused}
    found = leaking_columns(columns, schema=parts.schema, target=parts.target, seed=seed)
    if not found:
        return Passed(rule, f"none of {len(columns) - 1} columns predicts {parts.target} almost alone")
    text = f"Columns that predict {parts.target} almost alone: {format_names([str(leak) for leak in found], 5)}."
    return Finding(rule, any(leak.certain for leak in found), text, (
        "check whether the column is known, with the same value, before the target is",
        f"if not, leave it out: fit(train, ..., without={tuple(leak.column for leak in found[:5])})",
    ), {"columns": [leak.column for leak in found], "score": [leak.score for leak in found]})  # fmt: skip


def fitted_before(parts: Parts) -> Outcome:
    """Find columns that were scaled with the rows of several parts, before the split, or with those of each part.

    Such a column has, for example, a mean of 0 and a standard deviation of 1 to 5 digits over several parts, but in
    none of them alone, or over another part than the training part. Columns of at most 20 distinct values are not
    examined. A problem, except for one or two columns with a range of 0 to 1 or -1 to 1, which may be natural. A
    preparation of `research.data.fit` that saw rows of another part is a problem too.
    """
    rule = "fitted before the split"
    for part in parts.others:
        seen = part.origin.fitted if part.origin else None
        if seen is not None and (count := int(np.isin(part.origin.rows, seen).sum())):
            text = f"The preparation of {part.name} was fitted on {count:,} of its {part.size:,} rows."
            return Finding(rule, True, text, ("fit on the training rows: prepare = fit(train, ...); prepare(test)",))
    if not all(part.whole for part in parts.all):
        return Skipped(rule, "not all records were read")
    found, examined = {}, 0
    for name in parts.names("number", without=(parts.target,)):
        sides = [part.coded[name][~np.isnan(part.coded[name])] for part in parts.all]
        if min(map(len, sides)) < FEW or len(np.unique(sides[0])) <= FEW:
            continue
        examined += 1
        alone = [_deviations(side) for side in sides]
        for size in range(len(sides)):
            for others in itertools.combinations(range(1, len(sides)), max(1, size)):
                union = (0, *others) if size else others
                joined = _deviations(np.concatenate([sides[i] for i in union]))
                for form in [form for form in joined if joined[form] <= EXACT]:
                    if min(side[form] for side in alone) > OFF if size else "minimum" not in form:
                        found.setdefault((form, union), []).append(name)
    if not found and not examined and not any(part.origin and part.origin.fitted is not None for part in parts.all):
        return Skipped(rule, f"no column of numbers has more than {FEW} values")
    if not found:
        return Passed(rule, f"no preparation, and none of {examined} columns of numbers")
    texts = []
    for (form, union), columns in found.items():
        names = format_names([parts.all[i].name for i in union])
        where = f"over {names} together, but in none of them alone" if len(union) > 1 else f"over {names} alone"
        texts.append(f"{format_names(columns, 5)} {'has' if len(columns) == 1 else 'have'} {form} {where}")
    problem = any("a minimum" not in form or len(columns) > 2 for (form, _), columns in found.items())
    return Finding(rule, problem, "; ".join(texts) + ".", (
        "split first, and fit on the training rows: prepare = fit(train, scale.standard()); prepare(test)",
        "or: features = (features - features[train].mean(0)) / features[train].std(0)",
    ), {"columns": [name for columns in found.values() for name in columns]})  # fmt: skip


def _deviations(x) -> dict[str, float]:
    """Return how far a column is from each form that scaling gives to the rows that it was fitted on."""
    quartiles, length = np.quantile(x, (0.25, 0.5, 0.75)), np.sqrt(len(x))
    return {
        "a mean of 0 and a standard deviation of 1": max(abs(x.mean()), min(abs(x.std(ddof=d) - 1) for d in (0, 1))),
        "a mean of 0 and a sum of squares of 1": max(abs(x.mean()) * length, abs(np.linalg.norm(x) - 1)),
        "a minimum of 0 and a maximum of 1": max(abs(x.min()), abs(x.max() - 1)),
        "a minimum of -1 and a maximum of 1": max(abs(x.min() + 1), abs(x.max() - 1)),
        "a median of 0 and an interquartile range of 1": max(abs(quartiles[1]), abs(quartiles[2] - quartiles[0] - 1)),
    }
