"""Trackers that subscribe to a run: each is a function of (folder, about) that gives a subscriber.

TensorBoard files are written always; Weights & Biases and MLflow are extras, chosen when a run is started.
"""

import time
from pathlib import Path

from research.errors import UserError
from research.log import Started, scalar_writer


def tensorboard(folder, about=None):
    """Event files in `folder/tensorboard`. After a restart TensorBoard drops what will be written again."""
    # tensorboardX's own SummaryWriter writes in a thread, where a full disk ends in tracebacks.
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    path = Path(folder) / "tensorboard"
    path.mkdir(parents=True, exist_ok=True)
    file = RecordWriter(str(path / f"events.out.tfevents.{time.time():.6f}"))

    def put(**content):
        file.write(Event(wall_time=time.time(), **content).SerializeToString())
        file.flush()

    def write(step, numbers):
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        put(step=step, summary=Summary(value=values))

    scalars = scalar_writer(write, file.close)

    def listen(event):
        if isinstance(event, Started) and event.step:
            put(step=event.step, session_log=SessionLog(status=SessionLog.START))
        scalars(event)

    put(file_version="brain.Event:2")
    return listen


def wandb(project: str):
    """Weights & Biases, into `project`; a restarted run goes on under its own id. Needs the extra `wandb`."""

    def begin(folder, about):
        try:
            import wandb as client
        except ImportError:
            raise UserError("writing to Weights & Biases needs the extra: pip install 'research[wandb]'.") from None
        name = Path(folder).name
        tracked = client.init(project=project, id=name, name=name, resume="allow", dir=folder, config=about["knobs"])
        return scalar_writer(lambda step, numbers: tracked.log(dict(numbers), step=step), tracked.finish)

    return begin


def mlflow(experiment: str):
    """MLflow, into the experiment of that name at MLFLOW_TRACKING_URI. Needs the extra `mlflow`."""

    def begin(folder, about):
        try:
            import mlflow as client
        except ImportError:
            raise UserError("writing to MLflow needs the extra: pip install 'research[mlflow]'.") from None
        client.set_experiment(experiment)
        name = Path(folder).name
        known = client.search_runs(filter_string=f"tags.folder = '{name}'", output_format="list")
        client.start_run(run_id=known[0].info.run_id if known else None, run_name=name, tags={"folder": name})
        client.log_params(about["knobs"])
        return scalar_writer(lambda step, numbers: client.log_metrics(dict(numbers), step=step), client.end_run)

    return begin
