"""A worker of a sweep: claim a trial, train it as an ordinary run, record its result, and repeat."""

import contextlib
import math
import os
import signal
import sys
import threading
import time

from research import events
from research.errors import UserError, masked, unknown
from research.files import read_json, write_json
from research.search.report import report
from research.search.study import Claimed, Sweep, claim, library, settle
from research.verbs import train

DISK = ("No space left on device", "Disk quota exceeded", "Read-only file system")  # not a failure of a trial
SAME_FAILURES = 3  # consecutive failures with one message: the knobs are not the cause


class Pruned(Exception):
    """The subscriber of a trial raises this at `step` if the stopping rule ends the trial."""

    def __init__(self, step):
        super().__init__(f"stopped at step {step}: other trials were better at this point.")
        self.step = step


class Mistake(UserError):
    """An error in the settings of the sweep, which would affect every trial."""


def worker_command(folder) -> tuple[str, ...]:
    """Return the command that starts another worker of the sweep in `folder`, on any host that shares the folder.

    A SLURM array can run it unchanged, with one worker per element. It exits with 0 if no work is left or if it was
    preempted (its trial is saved, and the next worker resumes it), and with 2 if the sweep cannot continue.
    """
    return ("python", "-m", "research", "sweep", "--worker", str(folder))


def work(folder, *, stream=None, tell=lambda study: None, draw: bool = True) -> bool:
    """Train trials of the sweep in `folder` until none is left; return False if it was asked to stop before that.

    `tell(study)` is called after every trial. Progress of the runs goes to `stream` (default sys.stdout). If `draw`,
    the last worker writes the report. Raises UserError if no trial can succeed, KeyboardInterrupt after Ctrl-C. A full
    disk ends the worker, and its trial stays to be resumed.
    """
    stream = stream or sys.stdout
    sweep, study = settle(folder)
    while isinstance(claimed := claim(sweep, study), Claimed):
        try:
            proceed = _try(sweep, study, claimed, stream)
        finally:
            claimed.lock.close()
        tell(study)
        if not proceed:
            return False
        _same_failure(study)
    print(f"no trial left to start: {claimed}.", file=stream, flush=True)
    if draw and not any(t.state.name == "RUNNING" for t in study.get_trials(deepcopy=False)):
        report(sweep, study)
    return True


def leave_with_parent():
    """Make this process save and exit, as after SIGTERM, when its parent process is gone.

    Standard input is a pipe from the parent. The pipe closes however the parent ends.
    """

    def watch():
        while os.read(0, 1024):  # not sys.stdin: its lock would abort the interpreter at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _try(sweep: Sweep, study, claimed: Claimed, stream) -> bool:
    """Train one trial and record its result; return False if the run was asked to stop (it is saved)."""
    trial, folder = claimed.trial, claimed.folder
    states = library().trial.TrialState
    set_name, _, metric = sweep.metric.partition("/")
    print(f"trial {trial.number}: {trial.params}", file=stream, flush=True)
    try:
        trained = train(
            sweep.file, seed=sweep.seed, run_dir=folder, stream=stream, report=False, **claimed.knobs,
            listen=[lambda *_: _subscriber(trial, set_name, metric)],
        )  # fmt: skip
        if trained.status == "preempted":
            return False
        value = trained.results[set_name][metric]
        if not math.isfinite(value):
            raise ArithmeticError(f"{sweep.metric} is {value} at the end")
    except Pruned as stop:
        study.tell(trial, state=states.PRUNED)
        status = read_json(folder / "status.json")
        write_json(folder / "status.json", {**status, "status": "pruned", "text": str(stop)})
    except Mistake:
        raise
    except Exception as error:
        if any(cause in str(error) for cause in DISK):
            with contextlib.suppress(OSError):  # this attempt does not count against the trial
                trial.set_user_attr("lives", trial.user_attrs["lives"][:-1])
            raise
        message = f"{type(error).__name__}: {error}".replace(str(folder), "RUN").strip()
        message = masked(message)
        trial.set_user_attr("error", message[:2000])
        study.tell(trial, state=states.FAIL)
        print(f"trial {trial.number} failed: {message}", file=stream, flush=True)
    else:
        study.tell(trial, value)
    return True


def _subscriber(trial, set_name, metric):
    """Return a subscriber that reports each evaluation to the study once, and raises Pruned to stop the trial.

    Reports are counted in evaluations, not steps. A run that resumes from a checkpoint repeats the evaluations after
    it, with the same numbers; `work["evaluated"]` lists the steps that were already reported.
    """
    work = {"evaluated": [], "seconds": 0.0, "steps": 0, **trial.user_attrs.get("work", {})}
    earlier_seconds, began, total = work["seconds"], time.monotonic(), None

    def record(step):
        work.update(seconds=earlier_seconds + time.monotonic() - began, steps=max(step, work["steps"]))
        trial.set_user_attr("work", dict(work))

    def listen(event):
        nonlocal total
        match event:
            case events.Started():
                total = event.total
            case events.Evaluated(name=name) if name == set_name:
                numbers = event.results.numbers
                if metric not in numbers:
                    raise Mistake(str(unknown(f"metric of {set_name!r}", metric, numbers)))
                if event.step not in work["evaluated"]:
                    number = len(work["evaluated"]) + 1
                    if number not in trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
                        trial.report(numbers[metric], number)
                    work["evaluated"] = [*work["evaluated"], event.step]
                    record(event.step)
                if event.step < total and trial.should_prune():
                    raise Pruned(event.step)
            case events.Ended():
                record(event.step)

    return listen


def _same_failure(study):
    """Raise UserError if the last `SAME_FAILURES` trials failed with the same message."""
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    finished = sorted(finished, key=lambda t: t.datetime_complete)[-SAME_FAILURES:]
    errors = {t.user_attrs.get("error") for t in finished}
    if len(finished) == SAME_FAILURES and len(errors) == 1 and None not in errors:
        raise UserError(f"the last {SAME_FAILURES} trials failed with the same error: {errors.pop()}")
