"""Small experiments on the digits, healthy ones and such as are broken in one way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from research.core import Eval, Model
from research.data import arrays, batches, digits, eval_batches, stratified
from research.experiment import Experiment
from research.metrics.classification import measure_classification
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.optim.schedules import warmup_cosine
from research.wrappers.preprocess import preprocessed

PARTS = stratified(digits().columns["label"], (800, 200, None), seed=0)


def records(part):
    return {name: column[PARTS[part]].copy() for name, column in digits().columns.items()}


def scaled(image):
    return (image.astype(jnp.float32) - 5) / 6


def patient(
    *, network=None, prepare=scaled, change=lambda train, test: None, wrap=lambda model: model, rate=3e-3, **parts
):
    """A perceptron on 800 digits; `change(train, test)` writes into the records, `wrap` into the model."""
    train, test = records(0), records(1)
    change(train, test)
    network = network or (lambda rngs: MLP((8, 8, 1), hidden=(32,), rngs=rngs))
    model = wrap(preprocessed(from_nnx(network), prepare))
    schedule = warmup_cosine(rate, steps=200, warmup=10)
    fields = dict(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.adam(schedule),
        schedules={"learning_rate": schedule}, source=batches(arrays(**train), 32), steps=200,
        evals={"test": Eval(eval_batches(arrays(**test), 100), measure_classification(num_classes=10))},
    )  # fmt: skip
    return Experiment(**{**fields, **parts})


class Detached(nnx.Module):
    """A perceptron whose first layer gets no gradient."""

    def __init__(self, rngs):
        self.first, self.head = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x, *, train, rngs=None):
        return self.head(jax.lax.stop_gradient(jax.nn.relu(self.first(x.reshape(len(x), -1)))))


def through(function):
    """`wrap` for a model whose outputs go through `function(outputs, train)`."""

    def wrap(model):
        def apply(params, stats, x, key=None, train=False):
            outputs, changed = model.apply(params, stats, x, key=key, train=train)
            return function(outputs, train), changed

        return Model(model.init, apply)

    return wrap


def random_labels(experiment):
    """The experiment whose loss sees labels that are drawn anew at every step."""

    def loss(params, ctx):
        labels = jax.random.randint(ctx.key, ctx.batch["label"].shape, 0, 10)
        return experiment.loss(params, ctx._replace(batch={**ctx.batch, "label": labels}))

    return dataclasses.replace(experiment, loss=loss)


def noisy(share):
    def change(train, test):
        rng = np.random.default_rng(0)
        wrong = rng.random(len(train["label"])) < share
        train["label"][wrong] = rng.integers(0, 10, wrong.sum())

    return change
