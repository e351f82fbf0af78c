"""Trackers that subscribe to a run: each is a function of (folder, about) that gives a subscriber.

TensorBoard files are written always; Weights & Biases and MLflow are extras, chosen when a run is started.
"""

from pathlib import Path

from research.errors import UserError
from research.log import Ended, Started, scalar_writer


def tensorboard(folder, about=None):
    """Event files in `folder/tensorboard`. After a restart TensorBoard drops what will be written again."""
    from tensorboardX import SummaryWriter

    opened = []

    def write(step, numbers):
        for name, number in numbers.items():
            opened[0].add_scalar(name, number, step)

    scalars = scalar_writer(write, lambda: opened and opened[0].close())

    def listen(event):
        if isinstance(event, Started) and not opened:
            # 0 would purge nothing and warn
            opened.append(SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=event.step or None))
        if opened or not isinstance(event, Ended):
            scalars(event)

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
