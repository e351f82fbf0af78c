"""`sweep`: train many runs of one experiment with knobs chosen by a search, with one or many workers."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from research.distributed.preemption import signals
from research.errors import UserError, unknown
from research.files import file_errors
from research.runs.experiment_file import load
from research.runs.knobs import knobs_of
from research.search import budget as budgets
from research.search.report import Trial, command_of, lines, report, trials_of
from research.search.space import grid, space_of, to_json
from research.search.study import SEARCHES, STOPPINGS, left, library, make_sweep, read_sweep, settle
from research.search.worker import work, worker_command

DEFAULT_BUDGET = "30trials"
MAX_DEATHS = 3  # deaths per worker without a trial that ended in between
PATIENCE = 120  # seconds that a worker has to save its run when the sweep stops


class Swept(NamedTuple):
    """A sweep: its folder, its trials (the best first, see `report.Trial`), and whether no work is left."""

    folder: Path
    trials: list[Trial]
    finished: bool


def sweep(
    file, *, search: str = "tpe", stopping: str = "none", metric: str | None = None, mode: str | None = None,
    budget: str | None = None, workers: int = 1, seed: int = 0, runs=None, folder=None, stream=None, **knobs,
) -> Swept:  # fmt: skip
    """Search the knobs of an experiment file, or continue a search: the same call finds the same folder.

    To search a knob, give it as `lo:hi`, `lo:hi:log`, `a,b,c` or a list of choices; a plain value fixes it. `search` is
    grid, random, tpe, gp or evolution. `stopping` is none, asha, hyperband or median. `metric`, such as
    `valid/accuracy`, and `mode` (max or min) default to those of the experiment's best checkpoint. The value of a trial
    is the metric of its last evaluation. `budget` is `50trials`, `2h`, `1e6steps` or several separated by commas; the
    default is 30 trials, or the complete grid. A search whose budget covers all combinations tries each of
    them once, like a grid. A larger budget continues a finished sweep. `seed` seeds the search and
    every run; with one worker, the sweep is reproducible.

    Each trial is a run folder. One worker trains in this process. Several workers are processes on this host that share
    its GPUs; a worker that dies is restarted, and its trial resumes from the checkpoint. With 0, only the folder is
    created, for workers that are started elsewhere (`worker_command`). Raises UserError for every invalid argument, and
    KeyboardInterrupt after Ctrl-C.
    """
    stream = stream or sys.stdout
    library()
    for kind, value, valid in (
        ("search", search, SEARCHES), ("stopping", stopping, STOPPINGS), ("mode", mode or "max", ("max", "min")),
    ):  # fmt: skip
        if value not in valid:
            raise unknown(kind, value, valid)
    if workers < 0:
        raise UserError(f"workers must be 0 (create the sweep folder only) or more, not {workers}.")
    loaded = load(file)
    space = space_of(knobs_of(loaded.function), knobs)
    if search == "grid":
        grid(space)
    limits = budgets.parse(budget or DEFAULT_BUDGET) if budget or search != "grid" else budgets.Budget()
    settings = {"search": search, "stopping": stopping, "metric": metric, "mode": mode, "seed": seed}
    if folder is None:
        digest = hashlib.sha256(json.dumps([settings, to_json(space)], sort_keys=True).encode()).hexdigest()[:8]
        folder = Path(runs or os.environ.get("RESEARCH_RUNS", "runs")) / f"sweep-{loaded.name}-{digest}"
    folder = Path(folder).absolute()
    with file_errors(folder):
        make_sweep(folder, loaded, space, limits, **settings)
        print(f"sweep: {folder}", file=stream, flush=True)
        if workers == 1:
            with open(folder / "worker-0.log", "a", encoding="utf-8") as log:
                finished = work(folder, stream=log, tell=_ticker(folder, stream), draw=False)
        elif workers:
            finished = _supervise(folder, workers, stream)
        else:
            finished = False
        if workers and not read_sweep(folder).metric:
            return Swept(folder, [], False)  # stopped before the first trial
        settled, study = settle(folder)
        if not workers:
            print("start each worker with: " + " ".join(worker_command(folder)), file=stream)
            return Swept(folder, trials_of(settled, study), False)
        page = report(settled, study)
        trials = trials_of(settled, study)
        print(lines(settled, study), file=stream)
        if trials and trials[0].state == "finished":
            print(f"best: {command_of(settled, trials[0], os.path.relpath(file))}", file=stream)
        hint = "" if finished else "; run the same command again to continue"
        print(f"report: {page}{hint}", file=stream, flush=True)
    return Swept(folder, trials, finished)


def _supervise(folder, count, stream) -> bool:
    """Keep `count` workers running until no work is left (True) or this process is asked to stop (False)."""
    processes, caught_signals, deaths, num_ended, opened_sweep, tell = {}, [], 0, 0, None, _ticker(folder, stream)
    with signals(caught_signals.append):
        try:
            for number in range(count):
                processes[number] = _start(folder, number, count)
            while processes and not caught_signals:
                time.sleep(0.2)
                if opened_sweep is None and read_sweep(folder).metric:
                    opened_sweep = settle(folder)  # settled by a worker: here it would occupy devices
                if opened_sweep:
                    num_ended, deaths = _progress(opened_sweep[1], num_ended, deaths, tell)
                for number, process in list(processes.items()):
                    if process.poll() is None:
                        continue
                    processes.pop(number).stdin.close()
                    if process.returncode == 2:
                        raise UserError(_last_words(folder, number))
                    if process.returncode == 0 and not (opened_sweep and left(*opened_sweep)):
                        continue
                    deaths += 1
                    if deaths > MAX_DEATHS * count:
                        raise UserError(f"workers died {deaths} times in a row: {_last_words(folder, number)}")
                    message = f"worker {number} exited with code {process.returncode}; restarting it."
                    print(message, file=stream, flush=True)
                    processes[number] = _start(folder, number, count)
        finally:
            for process in processes.values():
                process.stdin.close()  # makes the worker save and exit
            for process in processes.values():
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if signal.SIGINT in caught_signals:
        raise KeyboardInterrupt
    if opened_sweep:
        tell(opened_sweep[1])
    return not caught_signals


def _start(folder, number, count):
    """Start a worker in a session of its own, so that Ctrl-C reaches only this process, which stops its workers."""
    command = [sys.executable, *worker_command(folder)[1:], "--attached"]
    with open(folder / f"worker-{number}.log", "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **share_of_gpus(number, count, os.environ)},
        )  # fmt: skip


def share_of_gpus(number: int, count: int, env, *, present: int | None = None) -> dict[str, str]:
    """Return the environment variables that assign worker `number` of `count` its NVIDIA GPUs of this host.

    Every worker gets the same number of GPUs. With fewer GPUs than workers, several workers share one GPU and its
    memory. `present` is the number of GPUs, by default counted in /dev.
    """
    if "CUDA_VISIBLE_DEVICES" in env:
        names = [name for name in env["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    else:
        total = len([p for p in Path("/dev").glob("nvidia*") if p.name[6:].isdigit()]) if present is None else present
        names = [str(i) for i in range(total)]
    if not names:
        return {}
    per_worker = len(names) // count
    if per_worker:
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[number * per_worker : (number + 1) * per_worker])}
    fraction = 0.9 / -(-count // len(names))  # by default, JAX preallocates three quarters of the memory of a GPU
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)], "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{fraction:.3f}"}


def _progress(study, ended, deaths, tell):
    """Return (number of ended trials, worker deaths since the last trial ended)."""
    num_finished = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    tell(study)
    return num_finished, 0 if num_finished > ended else deaths


def _last_words(folder, number) -> str:
    text = (folder / f"worker-{number}.log").read_text(encoding="utf-8", errors="replace").strip()
    message = text[text.rfind("error: ") + 7 :] if "error: " in text else text[-500:]
    return f"{message}\n(worker {number}; its log is {folder / f'worker-{number}.log'})"


def _ticker(folder, stream):
    """Return a function of the study that prints a line for each trial that ended since its last call."""
    printed: set[int] = set()
    settled = None

    def tell(study):
        nonlocal settled
        for t in study.get_trials(deepcopy=False):
            if t.state.is_finished() and t.number not in printed:
                printed.add(t.number)
                settled = settled or settle(folder)[0]
                row = next(row for row in trials_of(settled, study) if row.number == t.number)
                value = "" if row.value is None else f"{settled.metric} {row.value:.6g}  "
                knobs = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                                  for name, value in row.knobs.items())  # fmt: skip
                error = f"  {row.error.splitlines()[0][:160]}" if row.error else ""
                print(f"trial {t.number:<4} {row.state:<9} {value}{knobs}{error}", file=stream, flush=True)

    return tell
