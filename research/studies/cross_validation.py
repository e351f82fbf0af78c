"""Cross-validation: an experiment trained once a fold, and what its numbers are on average.

from research.studies.cross_validation import cross_validate
cross_validate("experiments/tabular/breast_cancer.py", folds=10).mean["test"]["auc"]

Such an experiment has two knobs, `fold: int` and `folds: int`, and trains on `research.data.folds(...)[fold]`.
"""

import functools
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.distributed.job import join
from research.errors import UserError
from research.runs.experiment_file import load
from research.runs.knobs import knobs_of, resolve
from research.verbs import RunResult, train


class CrossValidated(NamedTuple):
    """The runs, one a fold; {evaluation: {metric: value}} of their mean and of their sample standard deviation.

    The latter tells how much folds differ, not how sure the mean is: folds share most of what they train on, and no
    unbiased estimate of the mean's variance can be made of them (Bengio & Grandvalet 2004).
    """

    runs: list[RunResult]
    mean: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Mapping[str, float]]


def cross_validate(file: str | os.PathLike, *, stream=None, **given) -> CrossValidated:
    """Train an experiment file once a fold, and report the mean and spread of its numbers.

    `given` is what `train` takes, except `fold` and `run_dir`. Folds that are finished are not trained again; after a
    preemption the same call goes on, and `mean` and `spread` are empty until then. Raises UserError for an experiment
    without these knobs.
    """
    loaded = load(file)
    known = knobs_of(loaded.function)
    if missing := {"fold", "folds"} - set(known):
        raise UserError(
            f"{loaded.name} has no knob {min(missing)!r}. Cross-validation needs `fold: int = 0` and `folds: int = 5`, "
            "and an experiment that trains on research.data.folds(...)[fold].train."
        )
    for name in ("fold", "run_dir"):
        if given.pop(name, None) is not None:
            raise UserError(f"{name} was given, but cross-validation trains all folds, each in a folder of its own.")
    count = resolve(known, {name: value for name, value in given.items() if name in known})["folds"]
    tell = functools.partial(print, file=stream or sys.stdout) if join().rank == 0 else lambda *_: None
    runs = []
    for fold in range(count):
        runs.append(train(loaded, fold=fold, stream=stream, **given))
        if runs[-1].status != "finished":
            tell(f"{fold} of {count} folds are finished; the same command goes on.")
            return CrossValidated(runs, {}, {})
    results = [run.results for run in runs]
    stacked = {of: {k: np.array([found[of][k] for found in results]) for k in results[0][of]} for of in results[0]}
    spread = {of: {k: x.std(ddof=1) for k, x in metrics.items()} for of, metrics in stacked.items()}
    mean = {of: {k: x.mean() for k, x in metrics.items()} for of, metrics in stacked.items()}
    tell(f"{loaded.name}, {count} folds: mean ± standard deviation (least to most)")
    for of, metrics in stacked.items():
        for k, x in sorted(metrics.items()):
            tell(f"{of}/{k}  {mean[of][k]:.4f} ± {spread[of][k]:.4f} ({x.min():.4f} to {x.max():.4f})")
    return CrossValidated(runs, mean, spread)


cross_validate.options_of = train  # on the command line it takes what `train` takes
