"""The main operations on experiments and runs, as functions: train, evaluate, predict, report, experiments.

from research.verbs import train
run = train("experiments/digits.py", hidden=64, seed=1)
run.results["test"]["accuracy"]
"""

import contextlib
import inspect
import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research import events
from research.core import Eval, Rows
from research.data import class_names, eval_batches
from research.data.fingerprint import combine
from research.data.sampling.process_rows import read_own_rows
from research.diagnose.data import misnumbered
from research.diagnose.layers import LAYERS, spared, with_layers
from research.diagnose.live import diagnosis
from research.distributed.job import join
from research.distributed.watchdog import limit, watchdog
from research.errors import UserError, check_path, no_exit, own_line, printable, unknown
from research.evaluate import evaluator
from research.experiment import build, remarks
from research.files import TolerantStream, file_errors, write_json
from research.loop import NonFinite
from research.loop import run as loop
from research.report import report as report_of
from research.runs import folder as run_folder
from research.runs.checkpoint import Checkpoints
from research.runs.claims import judge
from research.runs.experiment_file import experiments, load
from research.runs.knobs import knobs_of
from research.runs.named_checkpoint import copy_checkpoint, find_checkpoint
from research.runs.opened import (
    check_present,
    data_of,
    knob_values,
    load_run,
    make_experiment,
    open_run,
    print_changed_data,
)
from research.runs.predictions import check_suffix, identifiers, open_data, write_predictions
from research.runs.record import Record, Unrecorded
from research.runs.secret import command_line
from research.runs.trust import is_own
from research.system.compilation_cache import keep_compiled
from research.system.provenance import versions
from research.tracking import trackers
from research.tracking.console import console, format_texts
from research.tracking.profile import described, profiler, read_summary
from research.tracking.trackers import timing_writer, tolerant

__all__ = ["evaluate", "experiments", "predict", "report", "train"]


class RunResult(NamedTuple):
    """The outcome of a run: its folder, `status` ("finished" or "preempted") and {evaluation: {metric: value}}."""

    folder: Path
    status: str
    results: Mapping[str, Mapping[str, float]]


def train(
    file: str | os.PathLike, *, seed: int = 0, runs: str | None = None, run_dir: str | None = None, again: bool = False,
    start_from: str | None = None, strategy: str = "jit", watch: bool = False, report: bool = True, quiet: bool = False,
    profile: bool = False, wandb: str | None = None, mlflow: str | None = None, listen=(), stream=None, **knobs,
) -> RunResult:  # fmt: skip
    """Train an experiment, or resume its run.

    The same command selects the same run folder and resumes the run. A finished run is not trained again; its results
    are printed at once.

    From Python, `train` returns a RunResult, and knobs may also be strings. Every function in `listen` makes one more
    event subscriber (see `research.tracking.trackers`). Progress is written to `stream` (default sys.stdout).

    Raises UserError for a mistake in the command, the experiment or its data. After Ctrl-C it saves a checkpoint and
    raises KeyboardInterrupt.

    file: an experiment file, such as experiments/digits.py
    seed: the seed of all random numbers
    runs (DIR): parent folder of the run folder (default $RESEARCH_RUNS or runs)
    run_dir (DIR): the run folder, instead of one named after the knobs
    again: train from scratch in a new folder
    start_from (--from RUN@STEP): start from a checkpoint of another run; knobs and length may differ
    strategy: jit, or pmap to compile for one device and run on all
    watch: record statistics of gradients, weights and activations of every layer, ten times per run
    report: do not write a report; `report RUN` writes it later
    profile: trace a few steps and summarise their time
    quiet: do not print the texts of evaluations, such as samples and tables of slices
    wandb (PROJECT): also log to Weights & Biases
    mlflow (EXPERIMENT): also log to MLflow
    """
    job = join()
    keep_compiled()
    with job.guard(), contextlib.ExitStack() as stack:
        stream = stream or sys.stdout if job.rank == 0 else stack.enter_context(open(os.devnull, "w"))
        stream = TolerantStream(stream)
        loaded = load(file)
        if reserved := set(knobs_of(loaded.function)) & set(RUN_OPTIONS):
            raise UserError(f"{loaded.file}: rename the knob {min(reserved)!r}; it is an option of `train`.")
        values = knob_values(loaded, knobs)
        chosen = {
            "Weights & Biases": wandb and trackers.wandb(wandb), "MLflow": mlflow and trackers.mlflow(mlflow),
            "the profiler": profile and profiler,
        }  # fmt: skip
        listen = [*listen, *(tolerant(make, name) for name, make in chosen.items() if make)]
        checkpoint = find_checkpoint(start_from) if start_from else None
        label = checkpoint.label if checkpoint else ""
        folder = Path(run_dir) if run_dir else Path(runs or os.environ.get("RESEARCH_RUNS", "runs"))
        if not run_dir:
            folder /= run_folder.folder_name(loaded, values, seed=seed, start_from=label)
        job.check_same("source, knobs and versions", run_folder.digest(loaded, values, seed, label, strategy))
        if again:
            folder = Path(job.first(lambda: str(run_folder.folder_of_launch(folder) or _unused_folder(folder))))
        stack.enter_context(file_errors(folder))

        def open_folder():
            stack.enter_context(run_folder.lock(folder))
            if checkpoint and not (folder / "run.json").exists():
                copy_checkpoint(checkpoint, folder)
            about = run_folder.open_folder(
                folder, loaded, knobs=values, seed=seed, start_from=label, command=command_line(values)
            )
            return about, run_folder.last_status(folder, stream)

        about, status = job.first(open_folder)
        job.check_shared(folder)
        if status.get("status") == "finished" and "results" in status:
            if report and job.rank == 0 and not (folder / "report" / "report.html").exists():
                report_of(folder, make_experiment(loaded, values))
            print_results(status["results"], stream)
            print(f"already finished: {folder} (--again: train from scratch; --from RUN: train further)", file=stream)
            if job.rank == 0:
                run_folder.write_status("finished", status["step"], folder)
            return RunResult(folder, "finished", status["results"])
        start = run_folder.failed_start(folder) if job.rank == 0 else contextlib.nullcontext()
        with start, no_exit("the start of the run"), own_line(loaded.files):
            experiment = job.turn(lambda: make_experiment(loaded, values))
            about["claims"] = [claim._asdict() for claim in experiment.claims]
            built = build(experiment, seed=seed, strategy=strategy)
            data = data_of(experiment, seed=seed)
        job.check_same("data", combine(sorted(data.items())))
        if not run_folder.check_data(folder, about, data):
            print("The first batch differs from that of the start of the run.", file=stream)
        options = {"watch": watch, "report": report, "quiet": quiet, "listen": listen, "stream": stream}
        return _train(folder, experiment, built, about, job=job, seed=seed, **options)


RUN_OPTIONS = tuple(
    name for name, parameter in inspect.signature(train).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
)


def _train(folder, experiment, built, about, *, job, seed, watch, report, quiet, listen, stream):
    """Run a built experiment in its folder, with all subscribers. Only rank 0 writes."""
    subscribers = []
    if job.rank == 0:
        read, _ = read_own_rows(built.source(seed), built.mesh, size=experiment.source.size)
        write_json(folder / "run.json", about)
        if experiment.preparation:
            experiment.preparation.save(folder)
        subscribers = [
            spared(console(stream=stream, label=about["experiment"], texts=not quiet)),
            timing_writer(folder / "timing.jsonl"),
            spared(run_folder.status_writer(folder, total=built.total)),
            run_folder.status_file(folder),
            *(make(folder, about) for make in (tolerant(trackers.tensorboard, "TensorBoard"), *listen)),
            diagnosis(lambda note: tell(note), folder=folder, batch_at=read),
        ]
    if seconds := limit(os.environ, processes=job.count):
        subscribers.append(watchdog(seconds, beats=lambda: job.interruption.calls, end=job.hung))

    def tell(event):
        for subscriber in subscribers:
            subscriber(event)

    def end(event):
        # Only once: after the failure of another rank, a thread ends the run while this one may still report events.
        ending = subscribers[:]
        subscribers.clear()
        for subscriber in ending:
            with contextlib.suppress(OSError):  # such as the full disk that ended the run
                subscriber(event)

    if watch:
        try:
            built = with_layers(built)
        except UserError as error:
            tell(events.Message(0, f"--watch records no layer statistics: {error}"))
    for text in remarks(built):
        tell(events.Message(0, text))
    if changed := {k: v for k, v in versions().items() if about["versions"].get(k) not in (v, None)}:
        tell(events.Message(0, f"Versions changed since the run started: {changed}. Results may not be bit-identical."))
    with (
        job.signals() as interruption,
        Record(folder / "metrics.jsonl") if job.rank == 0 else Unrecorded() as record,
        Checkpoints(
            folder / "checkpoints",
            keep=experiment.keep,
            about=run_folder.identity(about),
            required=bool(about["start_from"]),
            regular=built.save_every.ends_at,
        ) as checkpoints,
        job.guard(),
    ):
        job.last_words = lambda text: end(events.Ended(0, "failed", {}, text))
        try:
            with no_exit("the run"):
                outcome = loop(built, checkpoints=checkpoints, record=record, tell=tell, interrupted=interruption)
        except BaseException as error:
            if isinstance(error, NonFinite) and (cause := misnumbered(built, experiment.source(seed)(error.step))):
                error.args = (f"{cause}\n{error}",)
            end(events.Ended(getattr(error, "step", 0), "failed", {}, str(error) or repr(error)))
            raise
        outcome.results.pop(LAYERS, None)  # not among the results that are printed and saved
        end(events.Ended(outcome.step, outcome.status, outcome.results))
    job.last_words = lambda text: None
    report = report and outcome.status == "finished"
    if report and job.rank == 0:
        report_of(folder, experiment)
    print_results(outcome.results, stream)
    if profile := read_summary(folder):
        print(f"{described(profile)} Open the trace in TensorBoard or xprof: {folder / 'profile'}", file=stream)
    for verdict in (judge(claim, outcome.results) for claim in about["claims"] if outcome.status == "finished"):
        print(f"claim: {verdict.metric} {verdict.bound}: {verdict.outcome}", file=stream)
    hint = "rerun to resume" if outcome.status == "preempted" else f"for a report: python -m research report {folder}"
    hint = f"report: {folder}/report/report.html" if report else hint
    print(f"{outcome.status} at step {outcome.step} of {built.total}: {folder} ({hint})", file=stream)
    if interruption.number == signal.SIGINT:
        job.leave()
        raise KeyboardInterrupt
    return RunResult(folder, outcome.status, outcome.results)


def evaluate(path, *, on: str | None = None, trust: bool = False, stream=None) -> dict[str, dict[str, float]]:
    """Evaluate a checkpoint of a run, by default the newest, on all of its evaluation sets or on one.

    `path` is `RUN`, `RUN@step` or `RUN@best`; `on` is the name of an evaluation. Returns {evaluation: {metric: value}}
    and writes `evaluated/<step>/<name>.json` and `.npz` in the run folder. If the folder is not writable, it prints a
    message and continues. The source that is stored in the run folder is executed: `trust` allows this for a folder
    that this user did not make. Raises UserError for an unknown run, checkpoint or evaluation.
    """
    stream = stream or sys.stdout
    opened = open_run(path, trust=trust)
    evals, step = opened.experiment.evals, opened.step
    if on is not None and on not in evals:
        raise unknown("evaluation", on, evals)
    check_present(opened)
    print_changed_data(opened, stream)
    numbers, texts = {}, []
    for name in [on] if on else evals:
        results = evaluator(evals[name], opened.trained.apply, mesh=opened.mesh)(opened.state)
        numbers[name] = dict(results.numbers)
        texts += [name, *format_texts(results.texts)] if results.texts else []
        try:
            run_folder.save_evaluation(opened.folder / "evaluated" / str(step), name, step, results)
        except OSError as error:
            print(f"The evaluation {name} was not saved: {error.filename}: {error.strerror}.", file=stream)
    print_results({name: values for name, values in numbers.items() if values}, stream)
    print("".join(f"{line}\n" for line in texts), end="", file=stream)
    return numbers


def predict(path, data: str, *, out=None, trust: bool = False, stream=None) -> Path:
    """Write a run's predictions for every record of a data set: JSON lines, or a table if `out` ends in .csv.

    `path` is `RUN`, `RUN@step` or `RUN@best`. `data` is an evaluation set of the run, or a path that
    `research.data.open_path` can read; for an experiment with a preparation, the file of a table. A row has the index,
    the strings and the `id` of the record, the predictions, and the name of the predicted class. `trust` is as in
    `evaluate`. Returns the path of the output, `out` or `RUN/predictions/<data>.jsonl`. Raises UserError if the
    experiment has no `predict=`, and for data that is neither an evaluation set nor a path.
    """
    check_path(data, "an evaluation set or a path; for arrays: opened = open_run(RUN), then opened.trained(x)")
    out = check_suffix(out) if out else None
    opened = open_run(path, trust=trust)
    ex = opened.experiment
    print_changed_data(opened, stream or sys.stdout)
    if ex.predict is None:
        raise UserError(f"the experiment {opened.about['experiment']} has no predict=; set Experiment(predict=...).")
    if data in ex.evals:
        check_present(opened)
    source = ex.evals[data].source if data in ex.evals else eval_batches(open_data(ex, data), 64)
    sets = [ex.source, *(ev.source for ev in ex.evals.values())]
    classes = next(filter(None, (class_names(getattr(one, "data", None)) for one in sets)), None)

    def measure(trained, batch):
        return {"rows": Rows(ex.predict(trained, batch), batch["mask"])}

    results = evaluator(Eval(source, measure, view=opened.view), ex.apply, mesh=opened.mesh)(opened.state)
    out = out or opened.folder / "predictions" / f"{Path(data).stem}.jsonl"
    rows = {name: np.asarray(values) for name, values in results.rows.items()}
    write_predictions(out, rows, ids=identifiers(source.data), classes=classes)
    print(f"{len(next(iter(rows.values())))} predictions of step {opened.step}: {out}", file=stream or sys.stdout)
    return out


def report(path, *, trust: bool = False, stream=None) -> Path:
    """Rewrite the report of a run and return the path of its `report.html`.

    Class names and the worst errors need the experiment. If this user did not make the folder, its stored source is not
    executed, and they are omitted with a message, unless `trust`.
    """
    folder = run_folder.find_run(path)
    if trust or is_own(folder):
        return report_of(folder, load_run(folder, trust=trust).experiment)
    print(f"{folder} was not made by this user on this machine, so its source was not run. With --trust, the report "
          "also has class names and the worst errors.", file=stream or sys.stdout)  # fmt: skip
    return report_of(folder)


def print_results(results, stream):
    """Print the last evaluations, one per line. In a file, null stands for a number that is not finite."""
    number = lambda value: math.nan if value is None else value
    width = max(map(len, results), default=0)
    for name, numbers in results.items():
        print(
            f"{name:<{width}}  " + "  ".join(f"{printable(k)} {number(v):.4f}" for k, v in sorted(numbers.items())),
            file=stream,
        )


def _unused_folder(folder):
    numbered = (Path(f"{folder}-{number}") for number in range(2, 10_000))
    return next(path for path in numbered if not path.exists()) if Path(folder).exists() else Path(folder)
