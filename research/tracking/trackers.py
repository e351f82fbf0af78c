"""Trackers: functions of (folder, about) that return a subscriber to `research.events`.

TensorBoard files are always written. Weights & Biases and MLflow are optional extras, selected at the start of a run.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from research.errors import UserError
from research.events import Ended, Evaluated, Interval, Message, Saved, Started
from research.files import to_json
from research.system.resources import compilations, peak_memory


def tensorboard(folder, about):
    """Write a TensorBoard event file to the run folder, whose name TensorBoard shows as the name of the run.

    It has the metrics, the texts of evaluations and, at the end, the knobs and results for the HPARAMS tab. After a
    restart, repeated steps replace old ones.
    """
    # The SummaryWriter of tensorboardX writes in a thread, where a full disk only prints tracebacks.
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter
    from tensorboardX.summary import hparams, text

    file = RecordWriter(str(Path(folder) / f"events.out.tfevents.{time.time():.6f}"))

    def put(**content):
        file.write(Event(wall_time=time.time(), **content).SerializeToString())
        file.flush()

    def write(step, numbers):
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        put(step=step, summary=Summary(value=values))

    scalars = scalar_writer(write, file.close)

    def listen(event):
        match event:
            case Started() if event.step:
                put(step=event.step, session_log=SessionLog(status=SessionLog.START))
            case Evaluated():
                for name, value in event.results.texts.items():
                    put(step=event.step, summary=text(f"{event.name}/{name}", value))
            case Ended():
                results = {f"{name}/{k}": v for name, numbers in event.results.items() for k, v in numbers.items()}
                for summary in hparams({**_flat(about["knobs"]), "seed": about["seed"]}, results):
                    put(summary=summary)
        scalars(event)

    put(file_version="brain.Event:2")
    return listen


def _flat(knobs):
    """Return the knobs with values that TensorBoard can show: others are written as JSON."""
    return {name: v if isinstance(v, bool | int | float | str) else to_json(v) for name, v in knobs.items()}


def wandb(project: str):
    """Log to the Weights & Biases `project`; a restarted run resumes under its id. Needs the extra `wandb`."""

    def begin(folder, about):
        try:
            import wandb as client
        except ImportError:
            raise UserError(
                "writing to Weights & Biases needs the extra: pip install -e '.[wandb]' in the project's folder."
            ) from None
        name = Path(folder).name
        tracked = client.init(project=project, id=name, name=name, resume="allow", dir=folder, config=about["knobs"])
        return scalar_writer(lambda step, numbers: tracked.log(dict(numbers), step=step), tracked.finish)

    return begin


def mlflow(experiment: str):
    """Log to the MLflow experiment of that name at MLFLOW_TRACKING_URI. Needs the extra `mlflow`."""

    def begin(folder, about):
        try:
            import mlflow as client
        except ImportError:
            raise UserError(
                "writing to MLflow needs the extra: pip install -e '.[mlflow]' in the project's folder."
            ) from None
        client.set_experiment(experiment)
        name = Path(folder).name
        existing = client.search_runs(filter_string=f"tags.folder = '{name}'", output_format="list")
        client.start_run(run_id=existing[0].info.run_id if existing else None, run_name=name, tags={"folder": name})
        client.log_params(about["knobs"])
        return scalar_writer(lambda step, numbers: client.log_metrics(dict(numbers), step=step), client.end_run)

    return begin


def tolerant(make, name: str):
    """Wrap a tracker so that its errors do not end a run: it prints the first one and does not call the tracker again.

    A UserError at the start, such as for an extra that is not installed, is raised.
    """

    def begin(folder, about):
        subscriber = None

        def attempt(call, *args):
            nonlocal subscriber
            try:
                return call(*args)
            except UserError:
                raise
            except Exception as error:
                cause = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
                print(f"{name} failed, and the run continues without it: {cause}", file=sys.stderr)
                subscriber = None

        def listen(event):
            if subscriber is not None:
                attempt(subscriber, event)

        subscriber = attempt(make, folder, about)
        return listen

    return begin


def timing_writer(path):
    """Return a subscriber that writes `timing.jsonl`: one line per event, with its time and wall-clock measurements.

    Lines of intervals also have the peak `memory` (bytes) and the seconds of `compiling`; see
    `research.system.resources`.
    """
    file = open(path, "a", encoding="utf-8")
    compile_seconds, close = compilations()

    def write(event):
        match event:
            case Interval():
                line = {"step": event.step, **event.timing, "memory": peak_memory(), "compiling": compile_seconds()}
            case Evaluated():
                line = {"step": event.step, "event": "evaluated", "text": event.name, **event.results.timing}
            case Saved():
                line = {"step": event.step, "event": "saved"}
            case Message():
                line = {"step": event.step, "event": "noted", "text": event.text}
            case Started():
                line = {"step": event.step, "event": "started", "total": event.total}
            case Ended():
                line = {"step": event.step, "event": event.status, "text": event.text}
        print(to_json({**line, "time": time.time()}), file=file, flush=True)
        if isinstance(event, Ended):
            file.close()
            close()

    return write


def scalar_writer(write: Callable[[int, Mapping[str, float]], None], close: Callable[[], None]):
    """Return a subscriber for any tracker that logs numbers by name.

    It calls `write(step, {name: number})` for each interval and evaluation, and `close()` at the end.
    """

    def listen(event):
        match event:
            case Interval():
                write(event.step, {f"train/{k}": v for k, v in event.metrics.items()})
                write(event.step, {f"timing/{k}": v for k, v in event.timing.items()})
            case Evaluated():
                write(event.step, {f"{event.name}/{k}": v for k, v in event.results.numbers.items()})
            case Ended():
                close()

    return listen
