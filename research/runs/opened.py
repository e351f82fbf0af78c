"""Opening what a run left: its experiment, made again from the run's own source and knobs, and its trained network.

trained = open_run("runs/digits-1a2b3c4d-s0@best").trained
logits = trained(images)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from research.core import State, Trained, View, live
from research.experiment import Experiment, build
from research.files import read_json
from research.runs.checkpoint import Checkpoints
from research.runs.experiment_file import Loaded, load
from research.runs.folder import find_run
from research.runs.knobs import knobs_of, resolve
from research.runs.named_checkpoint import find_checkpoint
from research.system.compilation_cache import keep_compiled


class Reopened(NamedTuple):
    """A run folder, what its run.json says, and its experiment."""

    folder: Path
    about: dict
    experiment: Experiment


class OpenedRun(NamedTuple):
    """A run folder at the checkpoint of `step`.

    `state` is the State of the checkpoint, on the experiment's `mesh`. `view` is that of the first evaluation, and
    `trained` the network with the weights that the view gives.
    """

    folder: Path
    about: dict
    experiment: Experiment
    step: int
    state: State
    view: View
    trained: Trained
    mesh: jax.sharding.Mesh


def reopen(folder) -> Reopened:
    """A run with its experiment. Raises UserError where `folder` is not the folder of a run."""
    keep_compiled()
    folder = find_run(folder)
    about = read_json(folder / "run.json")
    loaded = load(folder / "source" / about["file"])
    return Reopened(folder, about, loaded.function(**resolve(knobs_of(loaded.function), about["knobs"])))


def open_run(path) -> OpenedRun:
    """`RUN` (the newest checkpoint), `RUN@step` or `RUN@best` with its experiment and its trained network.

    Raises UserError where there is no such run or checkpoint, and for a damaged checkpoint.
    """
    named = find_checkpoint(str(path))
    folder, about, experiment = reopen(named.folder)
    built = build(experiment, seed=about["seed"])
    with Checkpoints(folder / "checkpoints", keep=experiment.keep) as checkpoints:
        state = checkpoints.restore(built.abstract, step=named.step).state
    view = next(iter(experiment.evals.values())).view if experiment.evals else live
    trained = Trained(experiment.apply, *view(state))
    return OpenedRun(folder, about, experiment, named.step, state, view, trained, built.mesh)


def knob_values(loaded: Loaded, given: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's knobs with the given ones in place; raises UserError for what it does not know."""
    return resolve(knobs_of(loaded.function), given)
