"""A small classifier on arrays in memory, for fault injection. A run takes about a second after its compilation.

It stands alone, because a run keeps a copy of this file.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval
from research.data import batches, eval_batches, subset
from research.data.readers.arrays import of_columns
from research.data.sampling.source import generated
from research.experiment import Best, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.metrics.scores import chain, class_scores
from research.model import Model
from research.objectives.classify import classify


def experiment(
    *, steps: int = 24, save_every: int = 2, pause: float = 0.0, hidden: int = 8, noise: float = 0.5,
    classes: tuple[str, ...] = ("red", "green", "blue"), evaluation: str = "valid", quantity: str = "extra",
    column: str = "x",
) -> Experiment:  # fmt: skip
    """Build a run of `steps` steps; the last four knobs are names, which tests choose hostile.

    pause: seconds before each batch
    classes: names of the three classes
    evaluation: name of the evaluation during training
    quantity: name of a further metric
    column: name of the input
    """
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 60).astype(np.int32)
    x = (rng.normal(size=(60, 4)) + np.eye(3, 4)[label]).astype(np.float32)
    data = of_columns({column: x, "label": label, "id": np.arange(60)}, classes=classes)
    train, test = subset(data, range(40)), subset(data, range(40, 60))

    def init(key):
        up, down = jax.random.split(key)
        params = {"up": jax.random.normal(up, (4, hidden)), "down": jax.random.normal(down, (hidden, 3)) * 0.1}
        return params, {"mean": jnp.zeros(4)}

    def apply(params, stats, x, key=None, train=False):
        if train:
            stats = {"mean": 0.9 * stats["mean"] + 0.1 * x.mean(0)}
            x = x + noise * jax.random.normal(key, x.shape)
        return jnp.tanh((x - stats["mean"]) @ params["up"]) @ params["down"], stats

    def source(seed):
        batch_at = batches(train, 8)(seed)

        def paused(step):
            time.sleep(pause)
            return batch_at(step)

        return paused

    measure = measure_classification(num_classes=3, inputs=column)

    def further(results):
        return {quantity: float(results["accuracy"]) / 2}

    return Experiment(
        init=init, apply=apply, loss=classify(Model(init, apply), inputs=column), optimizer=optax.adam(0.02),
        source=generated(source, 8) if pause else batches(train, 8), steps=steps, log_every=1, save_every=save_every,
        evals={
            evaluation: Eval(eval_batches(train, 16), measure, every=4, finish=chain(class_scores(), further)),
            "test": Eval(eval_batches(test, 16), measure),
        },
        best=Best(f"{evaluation}/accuracy"), keep=3, predict=predict_classes(inputs=column),
    )  # fmt: skip
