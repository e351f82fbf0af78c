"""The record of a sweep: `sweep.json`, the source, and a journal of trials that any number of workers share.

A worker holds the lock of its trial, `locks/<number>`, as long as it lives; the system frees it when the process
dies, however it dies. So a trial that is marked as running and whose lock is free is one whose worker is gone: the
next worker takes it over, in the same run folder, from its checkpoint.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, nearest, unknown
from research.files import read_json, write_json
from research.runs.checkpoint import scores_by_step
from research.runs.experiment_file import Loaded, load, read_sources, write_sources
from research.runs.knobs import knobs_of, resolve
from research.search import gp
from research.search.budget import Budget, spent
from research.search.space import Space, first, from_json, grid, suggest, to_json

MAX_LIVES = 3  # of a trial at one checkpoint: what ends its worker each time is not tried for ever
GRACE = 5  # seconds after which the journal's lock is taken from a worker that died while it wrote
POPULATION = 10
REPEATS = 20  # in a row, of knobs that were tried: then the search has nothing new to propose

SEARCHES = {
    "grid": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),  # never asked: all points are in the queue
    "random": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda optuna, seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "gp": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),  # for its first trials; see gp.py
    "evolution": lambda optuna, seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
}
# Counted in evaluations of the run: rungs after 1, 3, 9, ... of them.
STOPPINGS = {
    "none": lambda optuna: optuna.pruners.NopPruner(),
    "asha": lambda optuna: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": lambda optuna: optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3),
    "median": lambda optuna: optuna.pruners.MedianPruner(n_startup_trials=5),
}


class Sweep(NamedTuple):
    """What `sweep.json` says. `metric` and `mode` are empty until a worker has asked the experiment (`settle`)."""

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
    """A trial that is this worker's until `lock` is closed, with all its knobs and its run folder."""

    trial: Any
    knobs: Mapping[str, Any]
    folder: Path
    lock: Any


def library():
    """optuna, quiet. Raises UserError with the name of the extra where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("a sweep needs the extra: pip install 'research[sweep]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def make_sweep(folder, loaded: Loaded, space: Space, budget: Budget, **options) -> Sweep:
    """Writes the folder of a sweep, or finds it: only the budget may have changed since, to go on with it.

    Raises UserError where the source was edited, or the folder is of another sweep.
    """
    folder = Path(folder)
    told = {**options, "name": loaded.name, "space": to_json(space)}
    path = folder / "sweep.json"
    folder.mkdir(parents=True, exist_ok=True)
    with mutex(folder):
        if path.exists():
            known = read_json(path)
            saved = read_sources(folder / "source")
            if saved != loaded.sources:
                edited = next(p for p in {**saved, **loaded.sources} if saved.get(p) != loaded.sources.get(p))
                raise UserError(
                    f"{edited} was edited since the sweep in {folder} began, and a sweep compares runs of one source. "
                    "Undo the edit, or begin another sweep with --folder."
                )
            was = known["given"]
            differ = [f"{key}: {was[key]} there, {now} given" for key, now in told.items() if was[key] != now]
            if differ:
                raise UserError(f"{folder} holds another sweep ({'; '.join(differ)}); give another --folder.")
        else:
            write_sources(folder / "source", loaded.sources)
            file = next(p for p in loaded.sources if Path(loaded.file).as_posix().endswith(p))
            known = {"file": file, "sources": list(loaded.sources), "given": told, "metric": "", "mode": ""}
        write_json(path, {**known, "budget": budget._asdict()})
    return read_sweep(folder)


def read_sweep(folder) -> Sweep:
    """The sweep of a folder. Raises UserError where there is none."""
    folder = Path(folder).absolute()
    if not (folder / "sweep.json").is_file():
        near = nearest(folder.name, [path.parent.name for path in folder.parent.glob("*/sweep.json")])
        raise UserError(f"{folder} is not the folder of a sweep.{near}")
    known = read_json(folder / "sweep.json")
    given = known["given"]
    return Sweep(
        folder, str(folder / "source" / known["file"]), given["name"], given["seed"], given["search"],
        given["stopping"], known["metric"], known["mode"], Budget(**known["budget"]), from_json(given["space"]),
    )  # fmt: skip


def settle(folder) -> tuple[Sweep, Any]:
    """The Sweep with its objective, and its study; makes both the first time.

    The objective is the metric that was given, or the one by which the experiment keeps its best checkpoint. Raises
    UserError where there is none, where the experiment has no such evaluation, or none before its end to stop by.
    """
    optuna = library()
    read_sweep(folder)  # there is one
    with mutex(folder):
        sweep = read_sweep(folder)
        known = read_json(sweep.folder / "sweep.json")
        if not sweep.metric:
            metric, mode = _objective(sweep, known["given"]["metric"], known["given"]["mode"])
            sweep = sweep._replace(metric=metric, mode=mode)
        path = str(sweep.folder / "journal.log")
        lock = optuna.storages.journal.JournalFileSymlinkLock(path, grace_period=GRACE)
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path, lock_obj=lock)),
            study_name="sweep", direction=f"{sweep.mode}imize", load_if_exists=True,
            pruner=STOPPINGS[sweep.stopping](optuna), sampler=SEARCHES[sweep.search](optuna, 0),
        )  # fmt: skip
        if sweep.search == "grid":
            for point in grid(sweep.space)[len(study.trials) :]:  # a kill may have left half of the queue
                study.enqueue_trial(point)
        write_json(sweep.folder / "sweep.json", {**known, "metric": sweep.metric, "mode": sweep.mode})
    return sweep, study


def claim(sweep: Sweep, study) -> Claimed | str:
    """The next trial: one whose worker is gone, else a new one; or the reason why there is none, in words."""
    optuna = library()
    running = optuna.trial.TrialState.RUNNING
    with mutex(sweep.folder):
        for found in study.get_trials(deepcopy=False, states=[running]):
            if (lock := hold(sweep.folder, found.number)) is None:
                continue
            study.sampler = _sampler(sweep, found.number)
            trial = optuna.trial.Trial(study, found._trial_id)  # optuna has no other way back to a trial
            folder, lives = folder_of(sweep, found.number), found.user_attrs.get("lives", [])
            reached = max(scores_by_step(folder / "checkpoints"), default=0)
            if lives.count(reached) < MAX_LIVES:
                trial.set_user_attr("lives", [*lives, reached])
                return Claimed(trial, suggest(trial, sweep.space), folder, lock)
            trial.set_user_attr("error", f"its worker died {MAX_LIVES} times after step {reached}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            lock.close()
        while True:
            trials = study.get_trials(deepcopy=False)
            if reason := finished(read_sweep(sweep.folder), trials):  # read anew: the budget may have grown
                return reason
            number = next((t.number for t in trials if t.state.name == "WAITING"), len(trials))
            study.sampler = _sampler(sweep, number)
            if sweep.search == "gp" and number == len(trials):
                if point := gp.propose(sweep.space, trials, mode=sweep.mode, seed=(sweep.seed, number)):
                    study.enqueue_trial(point)
            lock = hold(sweep.folder, number)
            trial = study.ask()
            knobs = suggest(trial, sweep.space)
            same = [t for t in trials if t.params == trial.params and t.state.name == "COMPLETE"]
            if not same:
                trial.set_user_attr("lives", [0])
                return Claimed(trial, knobs, folder_of(sweep, number), lock)
            # A run is a function of its knobs and seed.
            trial.set_user_attr("same_as", same[0].user_attrs.get("same_as", same[0].number))
            study.tell(trial, same[0].value)
            lock.close()


def finished(sweep: Sweep, trials) -> str:
    """Why no new trial may begin, in words; empty where one may."""
    begun = [t for t in trials if t.state.name != "WAITING"]
    if sweep.search == "grid" and len(begun) == len(trials):
        return f"all {len(trials)} points of the grid"
    if len(begun) >= REPEATS and all("same_as" in t.user_attrs for t in begun[-REPEATS:]):
        return f"{len(begun)} trials: the search proposes nothing new"
    work = [t.user_attrs.get("work", {}) for t in begun]
    return spent(
        sweep.budget, trials=len(begun), seconds=sum(w.get("seconds", 0) for w in work),
        steps=sum(w.get("steps", 0) for w in work),
    )  # fmt: skip


def left(sweep: Sweep, study) -> bool:
    """Whether there is work that no worker has."""
    with mutex(sweep.folder):
        trials = study.get_trials(deepcopy=False)
        if not finished(read_sweep(sweep.folder), trials):
            return True
        return any(t.state.name == "RUNNING" and not _held(sweep.folder, t.number) for t in trials)


def folder_of(sweep: Sweep, number: int) -> Path:
    """The run folder of a trial."""
    return sweep.folder / "trials" / f"{number:04d}"


@contextlib.contextmanager
def mutex(folder):
    """One worker at a time in here: so no trial is claimed twice, and no budget overdrawn."""
    with open(Path(folder) / ".mutex", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(folder, number: int):
    """The open file whose lock says that a worker has this trial; None where another worker does."""
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
    """A sampler whose draws depend on the sweep's seed and the trial's number, not on the worker or its life."""
    seed = int(np.random.SeedSequence([sweep.seed, number]).generate_state(1)[0])
    return SEARCHES[sweep.search](library(), seed)


def _objective(sweep, metric, mode):
    """(metric, mode) as given, or as the experiment has it."""
    loaded = load(sweep.file)
    experiment = loaded.function(**resolve(knobs_of(loaded.function), first(sweep.space)))
    best = experiment.best
    if not metric and not best:
        raise UserError(
            f"{sweep.name} does not say what its best checkpoint is (best=Best(...)); give --metric, such as "
            f"--metric {next(iter(experiment.evals), 'valid')}/loss, and --mode. Evaluations: "
            f"{', '.join(experiment.evals) or 'none'}."
        )
    if not mode and (best is None or metric not in (None, best.metric)):
        raise UserError(f"is a high {metric} good? Give --mode max or --mode min.")
    metric, mode = metric or best.metric, mode or best.mode
    name, slash, _ = metric.partition("/")
    if name not in experiment.evals or not slash:
        raise unknown("evaluation in --metric", metric, [f"{of}/..." for of in experiment.evals])
    if sweep.stopping != "none" and experiment.evals[name].every is None:
        raise UserError(f"{name!r} is evaluated at the end of a run only, so --stopping {sweep.stopping} sees nothing.")
    return metric, mode
