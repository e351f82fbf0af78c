"""Opening a run: its experiment, rebuilt from the stored source and knobs, and its trained network.

trained = open_run("runs/digits-1a2b3c4d-s0@best").trained
logits = trained(images)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from research.core import State, Trained, View, live
from research.data.fingerprint import data_changes, source_fingerprints
from research.data.preparation import load_preparation
from research.data.stored import reopening
from research.data.text.preparation import load_text
from research.errors import UserError, check_path, own_line
from research.experiment import Experiment, build
from research.files import read_json
from research.runs.checkpoint import Checkpoints
from research.runs.experiment_file import Loaded, load
from research.runs.folder import find_run, identity
from research.runs.knobs import knobs_of, resolve
from research.runs.named_checkpoint import find_checkpoint
from research.runs.reader import source_file
from research.runs.trust import check_trusted
from research.system.compilation_cache import keep_compiled


class Reopened(NamedTuple):
    """A run folder, the content of its run.json, its experiment, and the tables that are not here (`stored.py`)."""

    folder: Path
    about: dict
    experiment: Experiment
    absent: tuple[str, ...]


class OpenedRun(NamedTuple):
    """A run at the checkpoint of `step`.

    `state` is the State of the checkpoint, placed on `mesh`. `view` is the View of the first evaluation, and `trained`
    is the network with the weights that it selects. `absent` names the tables of the experiment that are not here: in
    their place it has NaN.
    """

    folder: Path
    about: dict
    experiment: Experiment
    step: int
    state: State
    view: View
    trained: Trained
    mesh: jax.sharding.Mesh
    absent: tuple[str, ...]

    def __repr__(self):
        return f"OpenedRun({str(self.folder)!r}, step {self.step})"


def load_run(folder, *, trust: bool = False) -> Reopened:
    """Open a run folder and rebuild its experiment by running the source that is stored in it.

    A preparation that was saved with the run is not fitted again, and needs no data (`research.data.stored`).

    Raises UserError if `folder` is not a run folder, and if this user did not make it, unless `trust`.
    """
    keep_compiled()
    folder = find_run(folder)
    check_trusted(folder, trust=trust)
    about = read_json(folder / "run.json")
    loaded = load(source_file(folder, about.get("file")))
    with own_line(loaded.files), reopening(load_preparation(folder) or load_text(folder)) as reopened:
        experiment = make_experiment(loaded, knob_values(loaded, about["knobs"]))
    return Reopened(folder, about, experiment, tuple(reopened.absent))


def open_run(path, *, trust: bool = False) -> OpenedRun:
    """Open `RUN` (its newest checkpoint), `RUN@step` or `RUN@best`, with its experiment and its trained network.

    The source that is stored in the run folder is executed. Raises UserError if the run or the checkpoint does not
    exist, if the checkpoint is damaged, and if this user did not make the folder, unless `trust`.
    """
    check_path(path, "the path of a run: RUN, RUN@step or RUN@best")
    checkpoint = find_checkpoint(str(path))
    folder, about, experiment, absent = load_run(checkpoint.folder, trust=trust)
    built = build(experiment, seed=about["seed"])
    checkpoint, state = _restored(path, built.abstract, identity(about))
    view = next(iter(experiment.evals.values())).view if experiment.evals else live
    trained = Trained(experiment.apply, *view(state))
    return OpenedRun(folder, about, experiment, checkpoint.step, state, view, trained, built.mesh, absent)


def _restored(path, abstract, about, attempts: int = 5):
    """Return the checkpoint that `path` names and its State. A run in progress may delete a checkpoint that is read."""
    for attempt in range(attempts):
        checkpoint = find_checkpoint(str(path))
        try:
            with Checkpoints(checkpoint.folder / "checkpoints", about=about, read_only=True) as checkpoints:
                return checkpoint, checkpoints.restore(abstract, step=checkpoint.step).state
        except (UserError, FileNotFoundError) as error:  # Orbax may fail to list a checkpoint that is being deleted
            exists = (checkpoint.folder / "checkpoints" / str(checkpoint.step)).exists()
            if attempt == attempts - 1 or exists and isinstance(error, UserError):
                raise


def make_experiment(loaded: Loaded, values: Mapping[str, Any]) -> Experiment:
    """Call the function of an experiment file. Raises UserError if it does not return an Experiment."""
    experiment = loaded.function(**values)
    if not isinstance(experiment, Experiment):
        got, hint = ("None", " Is `return` missing?") if experiment is None else (f"a {type(experiment).__name__}", "")
        raise UserError(f"experiment() in {loaded.file} returned {got}; expected an Experiment.{hint}")
    return experiment


def data_of(experiment: Experiment, *, seed: int) -> dict[str, dict]:
    """Return the fingerprints of the data of an experiment; see `research.data.fingerprint`."""
    evals = {name: ev.source for name, ev in experiment.evals.items()}
    return source_fingerprints(experiment.source, evals, seed=seed)


def check_present(opened: OpenedRun):
    """Raise UserError if a table of the experiment is not here, for a command that reads its records."""
    if opened.absent:
        raise UserError(
            f"the data of the run are not here: {', '.join(opened.absent)}. Without them, only new rows can be "
            f"predicted: python -m research predict {opened.folder} FILE."
        )


def print_changed_data(opened: OpenedRun, stream):
    """Print how the data differ from those of the run, which another machine or another day may have."""
    if opened.absent:
        print(f"The data of the run are not here and not compared: {', '.join(opened.absent)}.", file=stream)
        return
    was = opened.about.get("data")
    now = data_of(opened.experiment, seed=opened.about["seed"]) if was else {}
    for name, change in data_changes(was or {}, now).items():
        print(f"The data have changed since the run: {name} {change}.", file=stream)


def knob_values(loaded: Loaded, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all knobs of an experiment: the given ones, and defaults for the rest.

    Raises UserError for an unknown knob, a missing value, or a value of the wrong type.
    """
    return resolve(knobs_of(loaded.function), given)
