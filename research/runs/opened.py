"""Opening what a run left: its experiment, made again from the run's own source and knobs, and its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.errors import UserError
from research.experiment import build
from research.files import read_json
from research.runs.checkpoint import Checkpoints
from research.runs.experiment_file import Loaded, load
from research.runs.folder import find_run
from research.runs.knobs import knobs_of, resolve
from research.runs.origin import origin_of
from research.system.compilation_cache import keep_compiled


class Opened(NamedTuple):
    """A run folder together with its experiment, made again from the run's own source and knobs."""

    folder: Path
    about: dict
    experiment: Any


def open_run(path) -> Opened:
    """A run with its experiment, made from the source and the knobs that the run folder keeps."""
    keep_compiled()
    folder = find_run(path)
    about = read_json(folder / "run.json")
    loaded = load(folder / "source" / about["file"])
    return Opened(folder, about, loaded.function(**resolve(knobs_of(loaded.function), about["knobs"])))


def restore(path):
    """(Opened, State, step) of `RUN`, `RUN@step` or `RUN@best`. Raises UserError for a damaged checkpoint."""
    origin = origin_of(str(path))
    opened = open_run(origin.folder)
    built = build(opened.experiment, seed=opened.about["seed"])
    with Checkpoints(opened.folder / "checkpoints", keep=opened.experiment.keep) as checkpoints:
        state = checkpoints.restore(built.abstract, step=origin.step).state
    return opened, state, origin.step


def knob_values(loaded: Loaded, given: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's knobs with the given ones in place; raises UserError for what it does not know."""
    knobs = knobs_of(loaded.function)
    if reserved := set(knobs) & set(RUN_OPTIONS):
        raise UserError(f"{loaded.file}: a knob may not be called {sorted(reserved)[0]!r}; `train` itself has that.")
    return resolve(knobs, given)


RUN_OPTIONS = ("seed", "run_dir", "runs", "again", "start_from", "strategy", "watch", "page", "listen", "stream")
