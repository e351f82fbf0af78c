"""Class probabilities for the records of a run, by networks that were not trained on them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import events
from research.core import Eval, Rows
from research.data.fingerprint import combine, fingerprint
from research.data.labels.corrections import LABEL, base_rows
from research.data.readers.arrays import Subset, column, field_names, subset
from research.data.sampling.batches import Batches, eval_batches
from research.data.sampling.splits import folds as split
from research.errors import UserError, unknown
from research.evaluate import evaluator
from research.experiment import build
from research.files import atomic_write
from research.loop import run as loop
from research.runs.checkpoint import Checkpoints
from research.runs.opened import OpenedRun, open_run
from research.runs.reader import read_about
from research.runs.record import Record
from research.system.archive import read_npz
from research.tracking.console import console

TRAIN = "train"
BATCH = 256  # records of a batch that is predicted


class Predicted(NamedTuple):
    """Class probabilities [n, classes] of the records of `data`, and which networks computed them.

    `seen`, bool [n], marks the records that their networks were trained on.
    """

    data: Any
    probabilities: np.ndarray
    origin: str
    seen: np.ndarray


def predicted(opened: OpenedRun, on: str, *, folds: int, folder, trust: bool = False, stream=None) -> Predicted:
    """Predict the records of "train" or of an evaluation of a run; the sets need class numbers in the field "label".

    "train" is predicted by `folds` networks, each trained by the source of the run without the records that it
    predicts; finished folds are kept in `folder`, and interrupted ones resume. With 0 folds, and for an evaluation, the
    network of the run predicts; for an evaluation of a run with a knob `fold`, also those of the other folds beside it.
    Raises UserError for an unknown evaluation, for data without class numbers, and for an experiment whose `predict`
    gives no probabilities.
    """
    if on != TRAIN:
        return _of_evaluation(opened, on, trust=trust)
    source = opened.experiment.source
    data = _checked(source.data if isinstance(source, Batches) else None, "the training source")
    if folds:
        return _out_of_fold(opened, data, count=folds, folder=folder, stream=stream)
    p = _probabilities(opened.experiment, data, opened.state, opened.view, opened.mesh)
    return Predicted(data, p, f"Predicted by {opened.folder.name}, step {opened.step}.", np.ones(len(data), bool))


def _checked(data, what):
    """Return a data set. Raises UserError if there is none, or if it has no class numbers."""
    if data is None:
        raise UserError(f"{what} has no single data set; expected batches(data, size) or eval_batches(data, size).")
    if LABEL not in field_names(data):
        raise unknown("field of the labels", LABEL, field_names(data))
    if (labels := np.asarray(column(data, LABEL))).ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"the labels are {labels.dtype}{list(labels.shape)}; expected class numbers, one per record.")
    return data


def _of_evaluation(opened, on, *, trust) -> Predicted:
    """Predict an evaluation set; for a run of a cross-validation, those of all its folds."""
    if on not in opened.experiment.evals:
        raise unknown("data of the run", on, (TRAIN, *opened.experiment.evals))
    runs = [opened, *(open_run(folder, trust=trust) for folder in _other_folds(opened))]
    sets = [_checked(run.experiment.evals[on].source.data, f"the evaluation {on!r}") for run in runs]
    parts = [
        _probabilities(run.experiment, data, run.state, run.view, run.mesh)
        for run, data in zip(runs, sets, strict=True)
    ]
    seen = [_trained_on(run.experiment, data) for run, data in zip(runs, sets, strict=True)]
    if len(runs) == 1:
        return Predicted(sets[0], parts[0], f"Predicted by {opened.folder.name}, step {opened.step}.", seen[0])
    whole, rows = sets[0], [base_rows(data)[1] for data in sets]
    while isinstance(whole, Subset):
        whole = whole.data
    if len({combine([fingerprint(base_rows(data)[0])]) for data in sets}) > 1:
        raise UserError(f"the folds of {opened.folder.name} have different data; review another evaluation.")
    places, inverse = np.unique(np.concatenate(rows), return_inverse=True)
    p = np.zeros((len(places), parts[0].shape[1]))
    np.add.at(p, inverse, np.concatenate(parts))
    p /= np.bincount(inverse)[:, None]
    origin = f"Predicted by {len(runs)} runs of a cross-validation, each on the records of its own set {on}."
    marked = np.zeros(len(places), bool)
    np.logical_or.at(marked, inverse, np.concatenate(seen))
    return Predicted(subset(whole, places), p, origin, marked)


def _trained_on(ex, data) -> np.ndarray:
    """Return which records of a data set are in the training set, bool [n]."""
    if ex.source.data is None:
        return np.zeros(len(data), bool)
    (base, rows, _), (other, trained, _) = base_rows(data), base_rows(ex.source.data)
    same = base is other or len(base) == len(other) and fingerprint(base) == fingerprint(other)
    return np.isin(rows, trained) & same


def _other_folds(opened) -> list[Path]:
    """Return the folders beside a run of a cross-validation that hold its other folds."""
    form = lambda about: (
        [about.get(name) for name in ("experiment", "source", "seed")],
        {name: value for name, value in about.get("knobs", {}).items() if name != "fold"},
    )
    if "fold" not in opened.about["knobs"]:
        return []
    beside = [path.parent for path in sorted(opened.folder.parent.glob("*/run.json")) if not path.is_symlink()]
    return [
        folder
        for folder in beside
        if folder.name != opened.folder.name and form(read_about(folder, [])) == form(opened.about)
    ]


def _out_of_fold(opened: OpenedRun, data, *, count, folder, stream) -> Predicted:
    """Predict the training records by `count` networks, each trained without the records that it predicts.

    A finished fold is kept in `folder`, and an interrupted one resumes.
    """
    labels, about = np.asarray(column(data, LABEL)), opened.about
    identity = combine([fingerprint(data), about["knobs"], about.get("source"), about["seed"]])
    parts = []
    for k, part in enumerate(split(len(data), count, labels=labels, seed=0)):
        work = folder / f"fold_{k}_of_{count}-{identity}"
        kept = work.with_suffix(".npz")
        if not kept.exists():
            print(f"fold {k}, of 0 to {count - 1}", file=stream)
            p = _trained_without(opened, data, part, folder=work, stream=stream)
            with atomic_write(kept) as path, open(path, "wb") as file:
                np.savez_compressed(file, probabilities=p, rows=part.test)
            shutil.rmtree(work)
        try:
            with open(kept, "rb") as file:
                parts.append(read_npz(file))
        except ValueError as error:
            raise UserError(f"{kept} is damaged: {error}. Remove it, and run the same command again.") from error
    rows, p = (np.concatenate([part[name] for part in parts]) for name in ("rows", "probabilities"))
    origin = f"Predicted by {count} networks, trained like the run {opened.folder.name}, each on the other records."
    return Predicted(data, p[np.argsort(rows)], origin, np.zeros(len(data), bool))


def _trained_without(opened, data, part, *, folder, stream) -> np.ndarray:
    ex, observed = opened.experiment, any(technique.observe for technique in opened.experiment.techniques)
    source = dataclasses.replace(ex.source, data=subset(data, part.train))
    ex = dataclasses.replace(ex, source=source, evals=ex.evals if observed else {}, best=None, claims=())
    built = build(ex, seed=opened.about["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Record(folder / "metrics.jsonl") as record,
        Checkpoints(folder / "checkpoints", keep=1) as checkpoints,
    ):
        show = console(stream=stream, label=folder.name.split("-")[0])
        outcome = loop(built, checkpoints=checkpoints, record=record, tell=show)
        show(events.Ended(outcome.step, outcome.status, {}))
    return _probabilities(ex, subset(data, part.test), outcome.state, opened.view, built.mesh)


def _probabilities(ex, data, state, view, mesh) -> np.ndarray:
    """Return the class probabilities [n, classes] of all records of a data set, by the `predict` of the experiment."""
    if ex.predict is None:
        raise UserError("the experiment has no predict=; set Experiment(predict=predict_classes()).")

    def measure(trained, batch):
        return {"rows": Rows({"probabilities": ex.predict(trained, batch).get("probabilities")}, batch["mask"])}

    try:
        found = evaluator(Eval(eval_batches(data, BATCH), measure, view=view), ex.apply, mesh=mesh)(state)
        p = found.rows["probabilities"]
    except (KeyError, UserError) as error:
        raise UserError(f"the predict= of the experiment gives no probabilities of classes: {error}") from error
    if np.ndim(p) != 2 or not np.isfinite(p).all():
        raise UserError(f"the probabilities are {list(np.shape(p))}, or not finite; expected [records, classes].")
    return np.asarray(p, np.float64)
