"""`sweep`: many runs of one experiment, with knobs that a search chooses, by one or many workers."""

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
MAX_DEATHS = 3  # of workers, for each of them, without a trial that ended since
PATIENCE = 120  # seconds for a worker to save its run when the sweep is told to stop


class Swept(NamedTuple):
    """A sweep: its folder, its trials (the best first, see `report.Trial`), and whether nothing is left to do."""

    folder: Path
    trials: list[Trial]
    finished: bool


def sweep(
    file, *, search: str = "tpe", stopping: str = "none", metric: str | None = None, mode: str | None = None,
    budget: str | None = None, workers: int = 1, seed: int = 0, runs=None, folder=None, stream=None, **knobs,
) -> Swept:  # fmt: skip
    """Searches the knobs of an experiment file, or goes on with it: the same call finds the same folder.

    A knob is given as `lo:hi`, `lo:hi:log` or `a,b,c` (or a list of choices) to be searched, or as a plain value to
    stay. `search` is grid, random, tpe, gp or evolution; `stopping` none, asha, hyperband or median. `metric` such as
    `valid/accuracy` and `mode` (max or min) are those of the experiment's best checkpoint where they are not given;
    a trial's value is that of its last evaluation. `budget` is `50trials`, `2h`, `1e6steps` or several with commas
    (30 trials; for a grid all of it); more of it goes on with a sweep that is over. `seed` is that of the search and
    of every run: with one worker all repeats.

    Each trial is a run folder. One worker trains in this process; more are processes of this host that share its
    GPUs, and what dies is begun again and goes on from its checkpoint. With 0 only the folder is made, for workers
    that are started elsewhere (`worker_command`). Raises UserError for every mistake; KeyboardInterrupt after Ctrl-C.
    """
    stream = stream or sys.stdout
    library()
    for kind, given, valid in (
        ("search", search, SEARCHES), ("stopping", stopping, STOPPINGS), ("mode", mode or "max", ("max", "min")),
    ):  # fmt: skip
        if given not in valid:
            raise unknown(kind, given, valid)
    if workers < 0:
        raise UserError(f"a sweep has 0 workers (it is only prepared) or more, not {workers}.")
    loaded = load(file)
    space = space_of(knobs_of(loaded.function), knobs)
    if search == "grid":
        grid(space)
    allowed = budgets.parse(budget or DEFAULT_BUDGET) if budget or search != "grid" else budgets.Budget()
    told = {"search": search, "stopping": stopping, "metric": metric, "mode": mode, "seed": seed}
    if folder is None:
        mark = hashlib.sha256(json.dumps([told, to_json(space)], sort_keys=True).encode()).hexdigest()[:8]
        folder = Path(runs or os.environ.get("RESEARCH_RUNS", "runs")) / f"sweep-{loaded.name}-{mark}"
    folder = Path(folder).absolute()
    with file_errors(folder):
        make_sweep(folder, loaded, space, allowed, **told)
        print(f"sweep: {folder}", file=stream, flush=True)
        if workers == 1:
            with open(folder / "worker-0.log", "a", encoding="utf-8") as log:
                finished = work(folder, stream=log, tell=_ticker(folder, stream), draw=False)
        elif workers:
            finished = _supervise(folder, workers, stream)
        else:
            finished = False
        if workers and not read_sweep(folder).metric:
            return Swept(folder, [], False)  # told to stop before anything began
        made, study = settle(folder)
        if not workers:
            print("each worker: " + " ".join(worker_command(folder)), file=stream)
            return Swept(folder, trials_of(made, study), False)
        page = report(made, study)
        trials = trials_of(made, study)
        print(lines(made, study), file=stream)
        if trials and trials[0].state == "finished":
            print(f"best: {command_of(made, trials[0], os.path.relpath(file))}", file=stream)
        more = "" if finished else "; the same command goes on"
        print(f"report: {page}{more}", file=stream, flush=True)
    return Swept(folder, trials, finished)


def _supervise(folder, count, stream) -> bool:
    """Keeps `count` workers going until nothing is left, or this process is told to stop; True in the first case."""
    living, caught, deaths, ended, opened, tell = {}, [], 0, 0, None, _ticker(folder, stream)
    with signals(caught.append):
        try:
            for number in range(count):
                living[number] = _start(folder, number, count)
            while living and not caught:
                time.sleep(0.2)
                if opened is None and read_sweep(folder).metric:
                    opened = settle(folder)  # by a worker: here it would take the devices from them
                if opened:
                    ended, deaths = _progress(opened[1], ended, deaths, tell)
                for number, process in list(living.items()):
                    if process.poll() is None:
                        continue
                    living.pop(number).stdin.close()
                    if process.returncode == 2:
                        raise UserError(_last_words(folder, number))
                    if process.returncode == 0 and not (opened and left(*opened)):
                        continue
                    deaths += 1
                    if deaths > MAX_DEATHS * count:
                        raise UserError(f"workers died {deaths} times in a row: {_last_words(folder, number)}")
                    said = f"worker {number} ended with {process.returncode}; another takes over."
                    print(said, file=stream, flush=True)
                    living[number] = _start(folder, number, count)
        finally:
            for process in living.values():
                process.stdin.close()  # tells it to save and leave
            for process in living.values():
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if signal.SIGINT in caught:
        raise KeyboardInterrupt
    if opened:
        tell(opened[1])
    return not caught


def _start(folder, number, count):
    """A worker process, in a session of its own: Ctrl-C is for this process, which tells its workers."""
    command = [sys.executable, *worker_command(folder)[1:], "--attached"]
    with open(folder / f"worker-{number}.log", "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **share_of_gpus(number, count, os.environ)},
        )  # fmt: skip


def share_of_gpus(number: int, count: int, env, *, present: int | None = None) -> dict[str, str]:
    """The variables that give worker `number` of `count` as many of the host's NVIDIA GPUs as every other one.

    Where there are fewer GPUs than workers, workers share one, and its memory. `present` GPUs are counted in /dev.
    """
    if "CUDA_VISIBLE_DEVICES" in env:
        names = [name for name in env["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    else:
        found = len([p for p in Path("/dev").glob("nvidia*") if p.name[6:].isdigit()]) if present is None else present
        names = [str(i) for i in range(found)]
    if not names:
        return {}
    each = len(names) // count
    if each:
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[number * each : (number + 1) * each])}
    fraction = 0.9 / -(-count // len(names))  # JAX takes three quarters of a GPU's memory at its start
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)], "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{fraction:.3f}"}


def _progress(study, ended, deaths, tell):
    """(trials that have ended, deaths since one did)."""
    now = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    tell(study)
    return now, 0 if now > ended else deaths


def _last_words(folder, number) -> str:
    text = (folder / f"worker-{number}.log").read_text(encoding="utf-8", errors="replace").strip()
    said = text[text.rfind("error: ") + 7 :] if "error: " in text else text[-500:]
    return f"{said}\n(worker {number}; its log is {folder / f'worker-{number}.log'})"


def _ticker(folder, stream):
    """A function of the study that prints a line for each trial that ended since it was called last."""
    told: set[int] = set()
    known = None

    def tell(study):
        nonlocal known
        for t in study.get_trials(deepcopy=False):
            if t.state.is_finished() and t.number not in told:
                told.add(t.number)
                known = known or settle(folder)[0]
                shown = next(row for row in trials_of(known, study) if row.number == t.number)
                value = "" if shown.value is None else f"{known.metric} {shown.value:.6g}  "
                knobs = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                                  for name, value in shown.knobs.items())  # fmt: skip
                error = f"  {shown.error.splitlines()[0][:160]}" if shown.error else ""
                print(f"trial {t.number:<4} {shown.state:<9} {value}{knobs}{error}", file=stream, flush=True)

    return tell
