"""The record of a sweep: `sweep.json`, the source, and a journal of trials that all workers share.

A worker holds the lock of its trial, `locks/<number>`, while it lives. The operating system releases the lock when the
process dies, however it dies. A trial that is marked as running but whose lock is free has thus lost its worker; the
next worker resumes it in the same run folder, from its checkpoint.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, nearest, own_line, unknown
from research.files import check_regular, read_json, write_json
from research.runs.checkpoint_meta import scores_by_step
from research.runs.experiment_file import Loaded, load, read_sources, write_sources
from research.runs.opened import knob_values, make_experiment
from research.runs.reader import source_file
from research.runs.trust import sign
from research.search import gp
from research.search.budget import Budget, spent
from research.search.journal import JournalLock
from research.search.space import Space, count, first, from_json, grid, suggest, to_json

MAX_LIVES = 3  # attempts of a trial from one checkpoint, so that a trial that kills its workers is given up
POPULATION = 10
REPEATS = 20  # consecutive trials that repeat earlier knobs, after which the search is exhausted

SEARCHES = {
    "grid": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),  # unused: all points are queued
    "random": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda optuna, seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "gp": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),  # for the first trials; see gp.py
    "evolution": lambda optuna, seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
}
# Rungs are counted in evaluations of the run: after 1, 3, 9, ... evaluations.
STOPPINGS = {
    "none": lambda optuna: optuna.pruners.NopPruner(),
    "asha": lambda optuna: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": lambda optuna: optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3),
    "median": lambda optuna: optuna.pruners.MedianPruner(n_startup_trials=5),
}


class Sweep(NamedTuple):
    """The content of `sweep.json`. `metric` and `mode` are empty until `settle` reads them from the experiment."""

    folder: Path
    file: str
    name: str
    seed: int
    search: str
    stopping: str
    metric: str
    mode: str
    budget: Budget
    space: Space


class Claimed(NamedTuple):
    """A trial that belongs to this worker until `lock` is closed, with all its knobs and its run folder."""

    trial: Any
    knobs: Mapping[str, Any]
    folder: Path
    lock: Any


def library():
    """Import optuna, silenced. Raises UserError with the name of the extra if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("a sweep needs the extra: pip install -e '.[sweep]' in the project's folder.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def make_sweep(folder, loaded: Loaded, space: Space, budget: Budget, **options) -> Sweep:
    """Create the folder of a sweep, or reopen it to continue; only the budget may differ then.

    Raises UserError if the source was edited, or if the folder belongs to another sweep.
    """
    folder = Path(folder)
    settings = {**options, "name": loaded.name, "space": to_json(space)}
    path = folder / "sweep.json"
    folder.mkdir(parents=True, exist_ok=True)
    check_regular(folder, shallow=("trials",))
    with mutex(folder):
        if path.exists():
            record = read_json(path)
            saved = read_sources(folder / "source")
            if saved != loaded.sources:
                edited = next(p for p in {**saved, **loaded.sources} if saved.get(p) != loaded.sources.get(p))
                raise UserError(
                    f"{edited} was edited after the sweep in {folder} started; all trials must run the same source. "
                    "Undo the edit, or start another sweep with --folder."
                )
            was = record["given"]
            changes = [f"{key}: {was[key]} there, {new} given" for key, new in settings.items() if was[key] != new]
            if changes:
                raise UserError(f"{folder} contains another sweep ({'; '.join(changes)}); give another --folder.")
        else:
            write_sources(folder / "source", loaded)
            record = {"file": loaded.path, "sources": list(loaded.sources), "given": settings, "metric": "", "mode": ""}
        new = not path.exists()
        write_json(path, {**record, "budget": budget._asdict()})
        if new:
            sign(folder)
    return read_sweep(folder)


def read_sweep(folder) -> Sweep:
    """Read the sweep of a folder. Raises UserError if there is none."""
    folder = Path(folder).absolute()
    if not (folder / "sweep.json").is_file():
        near = nearest(folder.name, [path.parent.name for path in folder.parent.glob("*/sweep.json")])
        raise UserError(f"{folder} is not a sweep folder.{near}")
    record = read_json(folder / "sweep.json")
    options = record["given"]
    return Sweep(
        folder, str(source_file(folder, record["file"])), options["name"], options["seed"], options["search"],
        options["stopping"], record["metric"], record["mode"], Budget(**record["budget"]), from_json(options["space"]),
    )  # fmt: skip


def settle(folder) -> tuple[Sweep, Any]:
    """Return the Sweep with its objective, and its optuna study; the first call determines both.

    The objective is the metric given to the sweep, otherwise the metric that selects the experiment's best checkpoint.
    Raises UserError if there is neither, if the experiment has no such evaluation, or if a stopping rule is given and
    the evaluation runs only at the end.
    """
    optuna = library()
    check_regular(read_sweep(folder).folder, shallow=("trials",))
    with mutex(folder):
        sweep = read_sweep(folder)
        record = read_json(sweep.folder / "sweep.json")
        if not sweep.metric:
            metric, mode = _objective(sweep, record["given"]["metric"], record["given"]["mode"])
            sweep = sweep._replace(metric=metric, mode=mode)
        path = str(sweep.folder / "journal.log")
        lock = JournalLock(path)
        lock.repair()
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path, lock_obj=lock)),
            study_name="sweep", direction=f"{sweep.mode}imize", load_if_exists=True,
            pruner=STOPPINGS[sweep.stopping](optuna), sampler=SEARCHES[sweep.search](optuna, 0),
        )  # fmt: skip
        queued = [t.system_attrs.get("fixed_params", t.params) for t in study.get_trials(deepcopy=False)]
        for point in every_point(sweep):
            if point not in queued:  # an interrupted call may have queued only a part
                study.enqueue_trial(point)
        write_json(sweep.folder / "sweep.json", {**record, "metric": sweep.metric, "mode": sweep.mode})
    return sweep, study


def every_point(sweep: Sweep) -> list[dict[str, Any]]:
    """Return all points of a grid, or of a search whose budget covers them; otherwise []."""
    covered = sweep.budget.trials is not None and count(sweep.space) <= sweep.budget.trials
    return grid(sweep.space) if sweep.search == "grid" or covered else []


def claim(sweep: Sweep, study) -> Claimed | str:
    """Claim the next trial, or return the reason why there is none.

    Trials whose worker died come first, then new ones. A new trial with the same knobs as a finished one reuses its
    value. A trial whose worker died `MAX_LIVES` times without a new checkpoint has failed.
    """
    optuna = library()
    running = optuna.trial.TrialState.RUNNING
    with mutex(sweep.folder):
        for candidate in study.get_trials(deepcopy=False, states=[running]):
            if (lock := hold(sweep.folder, candidate.number)) is None:
                continue
            study.sampler = _sampler(sweep, candidate.number)
            trial = optuna.trial.Trial(study, candidate._trial_id)  # optuna has no public way to reopen a trial
            folder, lives = folder_of(sweep, candidate.number), candidate.user_attrs.get("lives", [])
            reached = max(scores_by_step(folder / "checkpoints"), default=0)
            if lives.count(reached) < MAX_LIVES:
                trial.set_user_attr("lives", [*lives, reached])
                return Claimed(trial, suggest(trial, sweep.space), folder, lock)
            trial.set_user_attr("error", f"its worker died {MAX_LIVES} times after step {reached}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            lock.close()
        while True:
            trials = study.get_trials(deepcopy=False)
            if reason := finished(read_sweep(sweep.folder), trials):  # read again: the budget may have grown
                return reason
            number = next((t.number for t in trials if t.state.name == "WAITING"), len(trials))
            study.sampler = _sampler(sweep, number)
            if sweep.search == "gp" and number == len(trials):
                if point := gp.propose(sweep.space, trials, mode=sweep.mode, seed=(sweep.seed, number)):
                    study.enqueue_trial(point)
            lock = hold(sweep.folder, number)
            trial = study.ask()
            knobs = suggest(trial, sweep.space)
            duplicates = [t for t in trials if t.params == trial.params and t.state.name == "COMPLETE"]
            if not duplicates:
                trial.set_user_attr("lives", [0])
                return Claimed(trial, knobs, folder_of(sweep, number), lock)
            # A run is determined by its knobs and seed, so its result can be reused.
            trial.set_user_attr("same_as", duplicates[0].user_attrs.get("same_as", duplicates[0].number))
            study.tell(trial, duplicates[0].value)
            lock.close()


def finished(sweep: Sweep, trials) -> str:
    """Return the reason why no new trial may start; empty if one may."""
    started = [t for t in trials if t.state.name != "WAITING"]
    if (points := every_point(sweep)) and len(started) == len(trials):
        return f"all {len(points)} points"
    if len(started) >= REPEATS and all("same_as" in t.user_attrs for t in started[-REPEATS:]):
        return f"{len(started)} trials: the search proposes nothing new"
    costs = [t.user_attrs.get("work", {}) for t in started]
    return spent(
        sweep.budget, trials=len(started), seconds=sum(cost.get("seconds", 0) for cost in costs),
        steps=sum(cost.get("steps", 0) for cost in costs),
    )  # fmt: skip


def left(sweep: Sweep, study) -> bool:
    """Check whether there is work that no worker has claimed."""
    with mutex(sweep.folder):
        trials = study.get_trials(deepcopy=False)
        if not finished(read_sweep(sweep.folder), trials):
            return True
        return any(t.state.name == "RUNNING" and not _held(sweep.folder, t.number) for t in trials)


def folder_of(sweep: Sweep, number: int) -> Path:
    """Return the run folder of a trial."""
    return sweep.folder / "trials" / f"{number:04d}"


@contextlib.contextmanager
def mutex(folder):
    """Lock the sweep: one worker at a time, so that no trial is claimed twice and the budget is not exceeded."""
    with open(Path(folder) / ".mutex", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(folder, number: int):
    """Lock a trial for this worker and return the open lock file, or None if another worker holds it."""
    path = Path(folder) / "locks" / f"{number:04d}"
    path.parent.mkdir(exist_ok=True)
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    print(f"{os.uname().nodename} {os.getpid()}", file=file, flush=True)
    return file


def _held(folder, number):
    with open(Path(folder) / "locks" / f"{number:04d}", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sampler(sweep, number):
    """Create a sampler that depends on the sweep's seed and the trial's number, but not on the worker."""
    seed = int(np.random.SeedSequence([sweep.seed, number]).generate_state(1)[0])
    return SEARCHES[sweep.search](library(), seed)


def _objective(sweep, metric, mode):
    """Return (metric, mode) as given, otherwise those of the experiment's best checkpoint."""
    loaded = load(sweep.file)
    with own_line(loaded.files):
        experiment = make_experiment(loaded, knob_values(loaded, first(sweep.space)))
    best = experiment.best
    if not metric and not best:
        raise UserError(
            f"{sweep.name} does not define its best checkpoint (best=Best(...)); give --metric, such as "
            f"--metric {next(iter(experiment.evals), 'valid')}/loss, and --mode. Evaluations: "
            f"{', '.join(experiment.evals) or 'none'}."
        )
    if not mode and (best is None or metric not in (None, best.metric)):
        raise UserError(f"the mode of {metric} is unknown. Give --mode max or --mode min.")
    metric, mode = metric or best.metric, mode or best.mode
    name, slash, _ = metric.partition("/")
    if name not in experiment.evals or not slash:
        raise unknown("evaluation in --metric", metric, [f"{of}/..." for of in experiment.evals])
    if sweep.stopping != "none" and experiment.evals[name].every is None:
        raise UserError(f"--stopping {sweep.stopping} needs {name!r} during training; it is evaluated at the end only.")
    return metric, mode
