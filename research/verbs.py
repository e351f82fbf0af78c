"""What one does with an experiment, as functions: train, evaluate, predict, report, experiments.

from research.verbs import train
run = train("experiments/digits.py", hidden=64, seed=1)
run.results["test"]["accuracy"]
"""

import contextlib
import inspect
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research import events
from research.core import Eval, Rows
from research.data import eval_batches, open_path
from research.data.sampling.process_rows import read_own_rows
from research.diagnose.layers import LAYERS, spared, with_layers
from research.diagnose.live import diagnosis
from research.distributed.job import join
from research.distributed.watchdog import limit, watchdog
from research.errors import UserError, unknown
from research.evaluate import evaluator
from research.experiment import build
from research.files import file_errors, read_json, replacing, write_json
from research.loop import run as loop
from research.report import judge
from research.report import report as report_of
from research.runs import folder as run_folder
from research.runs.checkpoint import Checkpoints
from research.runs.experiment_file import experiments, load
from research.runs.knobs import knobs_of
from research.runs.named_checkpoint import copy_checkpoint, find_checkpoint
from research.runs.opened import knob_values, open_run, reopen
from research.runs.record import Record, Unrecorded
from research.system.compilation_cache import keep_compiled
from research.system.provenance import versions
from research.tracking import trackers
from research.tracking.console import console
from research.tracking.profile import described, profiler, read_summary
from research.tracking.trackers import timing_writer

__all__ = ["evaluate", "experiments", "predict", "report", "train"]


class RunResult(NamedTuple):
    """A run that ended: its folder, `status` (finished or preempted), and {evaluation: {metric: value}}."""

    folder: Path
    status: str
    results: Mapping[str, Mapping[str, float]]


def train(
    file: str | os.PathLike, *, seed: int = 0, runs: str | None = None, run_dir: str | None = None, again: bool = False,
    start_from: str | None = None, strategy: str = "jit", watch: bool = False, report: bool = True,
    profile: bool = False, wandb: str | None = None, mlflow: str | None = None, listen=(), stream=None, **knobs,
) -> RunResult:  # fmt: skip
    """Train an experiment file, or go on with it.

    The same command finds the same folder, and resumes. A finished run is not trained twice: its results come back at
    once.

    From Python, knobs may be given as texts, each of `listen` (see `research.tracking.trackers`) gives one more
    subscriber, and progress goes to `stream` (sys.stdout). Raises UserError for every mistake; KeyboardInterrupt, when
    all is saved, after Ctrl-C.

    file: an experiment, such as experiments/digits.py
    seed: of everything random
    runs (DIR): where run folders are made (default $RESEARCH_RUNS or runs)
    run_dir (DIR): this very folder, instead of one named by the knobs
    again: train anew in a new folder
    start_from (--from RUN@STEP): begin at another run's checkpoint, with other knobs or more steps
    strategy: jit, or pmap: one program on every device
    watch: record gradients, weights and activations of every layer, ten times a run
    report: draw no report; `report RUN` does it later
    profile: trace a few steps, and show what the time goes to
    wandb (PROJECT): write to Weights & Biases too
    mlflow (EXPERIMENT): write to MLflow too
    """
    job = join()
    keep_compiled()
    with job.guard(), contextlib.ExitStack() as held:
        stream = stream or sys.stdout if job.rank == 0 else held.enter_context(open(os.devnull, "w"))
        loaded = load(file)
        if reserved := set(knobs_of(loaded.function)) & set(RUN_OPTIONS):
            raise UserError(f"{loaded.file}: a knob may not be called {min(reserved)!r}; `train` itself has that.")
        values = knob_values(loaded, knobs)
        listen = [*listen, *([trackers.wandb(wandb)] if wandb else []), *([trackers.mlflow(mlflow)] if mlflow else [])]
        listen += [profiler] if profile else []
        named = find_checkpoint(start_from) if start_from else None
        label = named.label if named else ""
        folder = Path(run_dir) if run_dir else Path(runs or os.environ.get("RESEARCH_RUNS", "runs"))
        if not run_dir:
            folder /= run_folder.folder_name(loaded, values, seed=seed, start_from=label)
        job.check_same("source, knobs and versions", run_folder.digest(loaded, values, seed, label, strategy))
        if again:
            folder = Path(job.first(lambda: str(run_folder.begun_by_launch(folder) or _unused(folder))))
        held.enter_context(file_errors(folder))

        def opened():
            held.enter_context(run_folder.lock(folder))
            if named and not (folder / "run.json").exists():
                copy_checkpoint(named, folder)
            about = run_folder.open_folder(
                folder, loaded, knobs=values, seed=seed, start_from=label, command=_command()
            )
            status = read_json(folder / "status.json") if (folder / "status.json").exists() else {}
            return about, status

        about, status = job.first(opened)
        job.check_shared(folder)
        if status.get("status") == "finished":
            if report and job.rank == 0 and not (folder / "report" / "report.html").exists():
                report_of(folder, reopen(folder).experiment)
            print_results(status["results"], stream)
            print(f"finished already: {folder}. Train it anew with --again, or go on with --from.", file=stream)
            if job.rank == 0:
                run_folder.tell_status("finished", status["step"], folder)
            return RunResult(folder, "finished", status["results"])
        with run_folder.failed_start(folder) if job.rank == 0 else contextlib.nullcontext():
            experiment = job.turn(lambda: loaded.function(**values))
            about["claims"] = [claim._asdict() for claim in experiment.claims]
            built = build(experiment, seed=seed, strategy=strategy)
        how = {"watch": watch, "report": report, "listen": listen, "stream": stream}
        return _train(folder, experiment, built, about, job=job, seed=seed, **how)


RUN_OPTIONS = tuple(
    name for name, parameter in inspect.signature(train).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
)


def _train(folder, experiment, built, about, *, job, seed, watch, report, listen, stream):
    """Runs a built experiment in its folder, with everything that listens to a run. Rank 0 writes."""
    subscribers = []
    if job.rank == 0:
        read, _ = read_own_rows(built.source(seed), built.mesh, size=experiment.source.size)
        write_json(folder / "run.json", about)
        subscribers = [
            spared(console(stream=stream, label=about["experiment"])),
            timing_writer(folder / "timing.jsonl"),
            spared(run_folder.status_writer(folder, total=built.total)),
            run_folder.status_file(folder),
            *(begin(folder, about) for begin in (trackers.tensorboard, *listen)),
            diagnosis(lambda note: tell(note), folder=folder, batch_at=read),
        ]
    if seconds := limit(os.environ, processes=job.count):
        subscribers.append(watchdog(seconds, beats=lambda: job.interruption.calls, end=job.hung))

    def tell(event):
        for subscriber in subscribers:
            subscriber(event)

    def end(event):
        for subscriber in subscribers:
            with contextlib.suppress(OSError):  # such as the full disk that the run ends of
                subscriber(event)

    if watch:
        try:
            built = with_layers(built)
        except UserError as error:
            tell(events.Noted(0, f"No statistics of layers: {error}"))
    if built.table:
        tell(events.Noted(0, f"Where the arrays live:\n{built.table}"))
    identity = {key: about[key] for key in ("experiment", "knobs", "seed", "versions")}
    changed = {k: v for k, v in versions().items() if about["versions"].get(k) not in (v, None)}
    if changed:
        tell(events.Noted(0, f"The run began with other versions than {changed}: it may not repeat bit for bit."))
    with (
        job.signals() as interruption,
        Record(folder / "metrics.jsonl") if job.rank == 0 else Unrecorded() as record,
        Checkpoints(
            folder / "checkpoints", keep=experiment.keep, about=identity, required=bool(about["start_from"])
        ) as checkpoints,
        job.guard(),
    ):
        job.last_words = lambda text: end(events.Ended(0, "failed", {}, text))
        try:
            outcome = loop(built, checkpoints=checkpoints, record=record, tell=tell, interrupted=interruption)
        except BaseException as error:
            end(events.Ended(getattr(error, "step", 0), "failed", {}, str(error) or repr(error)))
            raise
        outcome.results.pop(LAYERS, None)  # no headline
        end(events.Ended(outcome.step, outcome.status, outcome.results))
    job.last_words = lambda text: None
    report = report and outcome.status == "finished"
    if report and job.rank == 0:
        report_of(folder, experiment)
    print_results(outcome.results, stream)
    if spent := read_summary(folder):
        print(described(spent), file=stream)
    for verdict in (judge(claim, outcome.results) for claim in about["claims"] if outcome.status == "finished"):
        print(f"claim: {verdict.metric} {verdict.bound}: {verdict.outcome}", file=stream)
    more = "the same command goes on" if outcome.status == "preempted" else f"python -m research report {folder}"
    more = f"report: {folder}/report/report.html" if report else more
    print(f"{outcome.status} at step {outcome.step} of {built.total}: {folder} ({more})", file=stream)
    if interruption.number == signal.SIGINT:
        job.leave()
        raise KeyboardInterrupt
    return RunResult(folder, outcome.status, outcome.results)


def evaluate(path, *, on: str | None = None, stream=None) -> dict[str, dict[str, float]]:
    """Evaluates a run's newest checkpoint (`RUN@step` or `RUN@best` for another) on all its sets, or on one.

    Writes `evaluated/<step>/<name>.json` and `.npz` (a line says so if the run cannot be written to), and returns
    {evaluation: {metric: value}}.
    """
    stream = stream or sys.stdout
    opened = open_run(path)
    evals, step = opened.experiment.evals, opened.step
    if on is not None and on not in evals:
        raise unknown("evaluation", on, evals)
    found = {}
    for name in [on] if on else evals:
        results = evaluator(evals[name], opened.trained.apply, mesh=opened.mesh)(opened.state)
        found[name] = dict(results.numbers)
        try:
            run_folder.save_evaluation(opened.folder / "evaluated" / str(step), name, step, results)
        except OSError as error:
            print(f"The evaluation of {name} is not kept: {error.filename}: {error.strerror}.", file=stream)
    print_results(found, stream)
    return found


def predict(path, data: str, *, out=None, stream=None) -> Path:
    """Predicts for every record of `data`: the name of an evaluation set of the run, or a path (see
    `research.data.open_path`). Writes one JSON line a record to `out` (`RUN/predictions/<data>.jsonl`).
    """
    opened = open_run(path)
    ex = opened.experiment
    if ex.predict is None:
        raise UserError(f"{opened.about['experiment']} declares no predict=; see research/experiment.py.")
    source = ex.evals[data].source if data in ex.evals else eval_batches(_like(ex, data), 64)

    def measure(trained, batch):
        return {"rows": Rows(ex.predict(trained, batch), batch["mask"])}

    results = evaluator(Eval(source, measure, view=opened.view), ex.apply, mesh=opened.mesh)(opened.state)
    out = Path(out) if out else opened.folder / "predictions" / f"{Path(data).stem}.jsonl"
    names, columns = list(results.rows), [np.asarray(v).tolist() for v in results.rows.values()]
    with file_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as part, open(part, "w", encoding="utf-8") as file:
            for index, values in enumerate(zip(*columns, strict=True)):
                print(json.dumps({"index": index, **dict(zip(names, values, strict=True))}), file=file)
    print(f"{len(columns[0])} predictions of step {opened.step}: {out}", file=stream or sys.stdout)
    return out


def report(path) -> Path:
    """Draws the report of a run anew; gives the path of its `report.html`."""
    opened = reopen(path)
    return report_of(opened.folder, opened.experiment)


def print_results(results, stream):
    """The last evaluations, a line each."""
    width = max(map(len, results), default=0)
    for name, numbers in results.items():
        print(f"{name:<{width}}  " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(numbers.items())), file=stream)


def _command() -> str:
    """How this process was called, as one would type it."""
    program, *arguments = sys.argv
    program = "python -m research" if Path(program).name == "__main__.py" else Path(program).name
    return shlex.join([*program.split(), *arguments])


def _unused(folder):
    numbers = (Path(f"{folder}-{number}") for number in range(2, 10_000))
    return next(path for path in numbers if not path.exists()) if Path(folder).exists() else Path(folder)


def _like(ex, path):
    """The records at a path, with images of the size that the experiment's own have."""
    image = None
    for ev in ex.evals.values():
        image = ev.source.data[0].get("image") if ev.source.data is not None else None
    return open_path(path, size=None if image is None else np.shape(image)[:2])
