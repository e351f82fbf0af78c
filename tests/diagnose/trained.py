"""Small runs, sound and broken, that are really trained: what the rules of the diagnosis are held against."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import events
from research.core import Eval, Model, draw
from research.data import arrays, batches, digits, eval_batches, generated, stratified
from research.diagnose.layers import LAYERS, spared, with_layers
from research.diagnose.live import diagnosis
from research.errors import UserError
from research.experiment import Experiment, build
from research.files import write_json
from research.loop import run as loop
from research.metrics.classification import measure_classification
from research.objectives.classify import classify
from research.runs import folder as run_folder
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record
from research.tracking.trackers import timing_writer


def mlp(*, hidden=(64, 64), activation=jax.nn.relu, scale=2.0, detached=None, bias=0.0):
    """A perceptron in plain JAX, for the digits as vectors; `detached` is the layer that gets no gradient."""
    widths = (64, *hidden, 10)

    def init(key):
        layers = {
            str(i): {
                "kernel": jnp.sqrt(scale / a) * jax.random.normal(draw(key, i), (a, b)),
                "bias": jnp.full(b, bias if i == 0 else 0.0),
            }
            for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        }
        return {"layers": layers}, {}

    def apply(params, stats, x, key=None, train=False):
        for i in range(len(widths) - 1):
            layer = params["layers"][str(i)]
            x = x @ layer["kernel"] + layer["bias"]
            x = activation(x) if i < len(hidden) else x
            x = jax.lax.stop_gradient(x) if i == detached else x
        return x, {}

    return Model(init, apply)


def data(*, noise=0.0, scale=1.0, offset=0.0, seed=0):
    """(train, valid) of the digits as vectors of mean 0 and deviation 1, then scaled; a share of wrong labels."""
    columns, rng = digits().columns, np.random.default_rng(seed)
    image = (columns["image"].reshape(-1, 64).astype(np.float32) - 4.88) / 6.02 * scale + offset
    label = columns["label"].astype(np.int32)
    wrong = rng.random(len(label)) < noise
    label = np.where(wrong, (label + rng.integers(1, 10, len(label))) % 10, label).astype(np.int32)
    parts = stratified(columns["label"], (1000, 500, None), seed=0)[:2]
    return [arrays(image=image[rows].astype(np.float32), label=label[rows]) for rows in parts]


def experiment(model=None, *, records=None, source=None, optimizer=None, steps=200, **changes) -> Experiment:
    """200 steps on 1,000 digits, evaluated and watched ten times."""
    model = model or mlp()
    train, valid = records or data()
    fields = dict(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optimizer or optax.adam(2e-3),
        source=source or batches(train, 64), steps=steps, log_every=max(1, steps // 50), save_every=steps,
        evals={"valid": Eval(eval_batches(valid, 500), measure_classification(num_classes=10), every=steps // 10)},
    )  # fmt: skip
    return Experiment(**{**fields, **changes})


def changed(source, change):
    """`source` with `change(step, batch)` made to each batch."""

    def of_seed(seed):
        batch_at = source(seed)
        return lambda step: change(step, batch_at(step))

    return generated(of_seed, source.size, examples=source.examples)


def trained(folder, experiment, *, seed=0):
    """Trains as `research.verbs.train` does, without a file; gives the folder and what was noted."""
    folder.mkdir(parents=True)
    about = {"experiment": "tested", "knobs": {}, "seed": seed, "claims": [], "versions": {}}
    write_json(folder / "run.json", about)
    built = with_layers(build(experiment, seed=seed, devices=jax.devices()[:1]))
    notes = []
    subscribers = [
        timing_writer(folder / "timing.jsonl"),
        spared(run_folder.status_writer(folder, total=built.total)),
    ]
    subscribers.append(diagnosis(lambda note: notes.append(note), folder=folder))

    def tell(event):
        for subscriber in subscribers:
            subscriber(event)

    with (
        Record(folder / "metrics.jsonl") as record,
        Checkpoints(folder / "checkpoints", keep=1, about={}) as kept,
    ):
        try:
            outcome = loop(built, checkpoints=kept, record=record, tell=tell)
            outcome.results.pop(LAYERS, None)
            tell(events.Ended(outcome.step, outcome.status, outcome.results))
        except UserError as error:
            tell(events.Ended(getattr(error, "step", 0), "failed", {}, str(error)))
    return folder, notes


def slow(step, batch):
    """A source that the step waits for."""
    time.sleep(0.04)
    return batch
