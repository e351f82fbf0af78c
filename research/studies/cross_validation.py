"""Cross-validation: train an experiment once per fold; report the mean and spread of its metrics.

from research.studies.cross_validation import cross_validate
cross_validate("experiments/tabular/breast_cancer.py", folds=10).mean["test"]["auc"]

The experiment needs two knobs, `fold: int` and `folds: int`, and trains on `research.data.folds(...)[fold]`.
"""

import functools
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.distributed.job import join
from research.errors import UserError, printable
from research.runs.experiment_file import load
from research.runs.knobs import knobs_of, resolve
from research.verbs import RunResult, train


class CrossValidated(NamedTuple):
    """One run per fold, and the mean and sample standard deviation of their metrics as {evaluation: {metric: value}}.

    `spread` measures how much folds differ. It is not the uncertainty of the mean: training sets of folds overlap, and
    the variance of the mean has no unbiased estimator (Bengio & Grandvalet 2004).
    """

    runs: list[RunResult]
    mean: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Mapping[str, float]]


def cross_validate(file: str | os.PathLike, *, quiet: bool = True, stream=None, **options) -> CrossValidated:
    """Train an experiment file once per fold; report the mean and spread of its metrics.

    Finished folds are not trained again. After a preemption, the same command resumes.

    file: an experiment file with the knobs `fold` and `folds`
    quiet: do not print the texts of the evaluations of every fold

    From Python, `options` are the arguments of `train`, except `fold` and `run_dir`; after a preemption, `mean` and
    `spread` are empty. Raises UserError for a missing knob, or if `fold` or `run_dir` is passed.
    """
    loaded = load(file)
    knobs = knobs_of(loaded.function)
    if missing := {"fold", "folds"} - set(knobs):
        raise UserError(
            f"{loaded.name} has no knob {min(missing)!r}. Cross-validation needs `fold: int = 0` and `folds: int = 5`, "
            "and training on research.data.folds(...)[fold].train."
        )
    for name in ("fold", "run_dir"):
        if options.pop(name, None) is not None:
            raise UserError(f"{name} was given, but cross-validation trains every fold in its own folder; remove it.")
    count = resolve(knobs, {name: value for name, value in options.items() if name in knobs})["folds"]
    echo = functools.partial(print, file=stream or sys.stdout) if join().rank == 0 else lambda *_: None
    runs = []
    for fold in range(count):
        echo(f"fold {fold}, of 0 to {count - 1}")
        runs.append(train(loaded, fold=fold, quiet=quiet, stream=stream, **options))
        if runs[-1].status != "finished":
            echo(f"{fold} of {count} folds finished; run the same command again to resume.")
            return CrossValidated(runs, {}, {})
    results = [run.results for run in runs]
    stacked = {name: {k: np.array([r[name][k] for r in results]) for k in results[0][name]} for name in results[0]}
    spread = {name: {k: x.std(ddof=1) for k, x in metrics.items()} for name, metrics in stacked.items()}
    mean = {name: {k: x.mean() for k, x in metrics.items()} for name, metrics in stacked.items()}
    echo(f"{loaded.name}, {count} folds: mean ± standard deviation (minimum to maximum)")
    for name, metrics in stacked.items():
        for k, x in sorted(metrics.items()):
            echo(f"{name}/{printable(k)}  {mean[name][k]:.4f} ± {spread[name][k]:.4f} ({x.min():.4f} to {x.max():.4f})")
    return CrossValidated(runs, mean, spread)


cross_validate.options_of = train  # its command line has the options of `train`
