"""A worker of a sweep: takes a trial, trains it as an ordinary run, says how it went, takes the next."""

import math
import os
import signal
import sys
import threading
import time

from research import events
from research.errors import UserError, unknown
from research.files import read_json, write_json
from research.search.report import report
from research.search.study import Claimed, Sweep, claim, library, settle
from research.verbs import train

SAME_FAILURES = 3  # in a row: then it is not the knobs


class Pruned(Exception):
    """Raised by the subscriber of a trial that is not worth going on with, at `step`."""

    def __init__(self, step):
        super().__init__(f"stopped at step {step}: other trials were better by then.")
        self.step = step


class Mistake(UserError):
    """What is wrong with every trial of the sweep, not with the knobs of one."""


def worker_command(folder) -> tuple[str, ...]:
    """The command of one more worker for the sweep in `folder`, on any host that shares the folder.

    A SLURM array runs it as it is, one element a worker. It ends with 0 when nothing is left to do or it was
    preempted (its trial is saved, and the next worker goes on with it), with 2 where the sweep cannot go on.
    """
    return ("python", "-m", "research", "sweep", "--worker", str(folder))


def work(folder, *, stream=None, tell=lambda study: None, draw: bool = True) -> bool:
    """Works on the sweep in `folder` until there is no trial left to begin; True unless it was told to stop before.

    `tell(study)` is called after every trial; progress of the runs goes to `stream` (sys.stdout). The last worker
    draws the report where `draw`. Raises UserError where no trial can succeed, KeyboardInterrupt after Ctrl-C.
    """
    stream = stream or sys.stdout
    sweep, study = settle(folder)
    while isinstance(claimed := claim(sweep, study), Claimed):
        try:
            going_on = _try(sweep, study, claimed, stream)
        finally:
            claimed.lock.close()
        tell(study)
        if not going_on:
            return False
        _same_failure(study)
    print(f"no trial is left to begin: {claimed}.", file=stream, flush=True)
    if draw and not any(t.state.name == "RUNNING" for t in study.get_trials(deepcopy=False)):
        report(sweep, study)
    return True


def leave_with_parent():
    """Makes this process save and leave, as at SIGTERM, when the process that started it is gone.

    Its standard input is a pipe from there, which closes however that process ends.
    """

    def watch():
        while os.read(0, 1024):  # not through sys.stdin, whose lock would abort the interpreter at its end
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _try(sweep: Sweep, study, claimed: Claimed, stream) -> bool:
    """Trains one trial and tells the study what came of it; False where the run was told to stop (it is saved)."""
    trial, folder = claimed.trial, claimed.folder
    states = library().trial.TrialState
    of, _, metric = sweep.metric.partition("/")
    print(f"trial {trial.number}: {trial.params}", file=stream, flush=True)
    try:
        trained = train(
            sweep.file, seed=sweep.seed, run_dir=folder, stream=stream, report=False, **claimed.knobs,
            listen=[lambda *_: _subscriber(trial, of, metric)],
        )  # fmt: skip
        if trained.status == "preempted":
            return False
        value = trained.results[of][metric]
        if not math.isfinite(value):
            raise ArithmeticError(f"{sweep.metric} is {value} at the end")
    except Pruned as stop:
        study.tell(trial, state=states.PRUNED)
        status = read_json(folder / "status.json")
        write_json(folder / "status.json", {**status, "status": "pruned", "text": str(stop)})
    except Mistake:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".replace(str(folder), "RUN").strip()
        trial.set_user_attr("error", text[:2000])
        study.tell(trial, state=states.FAIL)
        print(f"trial {trial.number} failed: {text}", file=stream, flush=True)
    else:
        study.tell(trial, value)
    return True


def _subscriber(trial, of, metric):
    """Reports each evaluation to the study, once, and raises Pruned where the trial is to stop.

    What is reported is counted in evaluations, not steps. A run that goes on from a checkpoint evaluates again what
    came after it, to the same numbers: `work["evaluated"]` are the steps that were reported.
    """
    work = {"evaluated": [], "seconds": 0.0, "steps": 0, **trial.user_attrs.get("work", {})}
    before, began, total = work["seconds"], time.monotonic(), None

    def note(step):
        work.update(seconds=before + time.monotonic() - began, steps=max(step, work["steps"]))
        trial.set_user_attr("work", dict(work))

    def listen(event):
        nonlocal total
        match event:
            case events.Started():
                total = event.total
            case events.Evaluated(name=name) if name == of:
                numbers = event.results.numbers
                if metric not in numbers:
                    raise Mistake(str(unknown(f"metric of {of!r}", metric, numbers)))
                if event.step not in work["evaluated"]:
                    number = len(work["evaluated"]) + 1
                    if number not in trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
                        trial.report(numbers[metric], number)
                    work["evaluated"] = [*work["evaluated"], event.step]
                    note(event.step)
                if event.step < total and trial.should_prune():
                    raise Pruned(event.step)
            case events.Ended():
                note(event.step)

    return listen


def _same_failure(study):
    """Raises UserError where the last trials all failed with the same words."""
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    ended = sorted(ended, key=lambda t: t.datetime_complete)[-SAME_FAILURES:]
    errors = {t.user_attrs.get("error") for t in ended}
    if len(ended) == SAME_FAILURES and len(errors) == 1 and None not in errors:
        raise UserError(f"the last {SAME_FAILURES} trials failed alike: {errors.pop()}")
