"""What a classifier's evaluation measures, and what it predicts for records without labels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import losses
from research.core import Rows, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


class Confusion(NamedTuple):
    """How often each true class (row) was predicted as each class (column): f32 [C, C]. States add up."""

    counts: jax.Array

    def value(self) -> jax.Array:
        """The counts; exact up to 2 ** 24 in a cell."""
        return self.counts


def confusion(labels, predictions, *, num_classes: int, weights) -> Confusion:
    """The Confusion of int [B] labels and predictions. A label out of range counts in no cell."""
    # A negative index would count from the end.
    labels = jnp.where(labels < 0, num_classes, labels)
    zeros = jnp.zeros((num_classes, num_classes), jnp.float32)
    return Confusion(zeros.at[labels, predictions].add(weights, mode="drop"))


def measure_classification(*, num_classes: int, inputs: str = "image", labels: str = "label"):
    """The measure of an Eval: loss (nats), accuracy, confusion [C, C], and rows of label, prediction, confidence
    and loss for every example. Labels are int [B]; examples of mask 0 do not count.

    The measure raises UserError where the batch lacks a field or the model has another number of classes.
    """

    def measure(apply, params, stats, batch):
        x, y = field(batch, inputs), field(batch, labels)
        logits, _ = apply(params, stats, x, train=False)
        if logits.shape[-1] != num_classes:
            raise UserError(f"the model gives {logits.shape[-1]} classes, the measure expects {num_classes}.")
        weights = example_weights(batch, len(x))
        loss = losses.cross_entropy(logits, y)
        found = predicted(logits)
        rows = {"label": y, "prediction": found["prediction"], "confidence": found["confidence"], "loss": loss}
        return {
            "loss": weighted_mean(loss, weights),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
            "confusion": confusion(y, found["prediction"], num_classes=num_classes, weights=weights),
            "rows": Rows(rows, weights),
        }

    return measure


def predict_classes(*, inputs: str = "image"):
    """The `predict` of an Experiment: {prediction int [B], confidence f32 [B], probabilities f32 [B, C]}."""

    def predict(apply, params, stats, batch):
        return predicted(apply(params, stats, field(batch, inputs), train=False)[0])

    return predict


def predicted(logits):
    """The most likely class, its probability, and all probabilities, of logits [B, C]."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return {
        "prediction": logits.argmax(-1).astype(jnp.int32),
        "confidence": probabilities.max(-1),
        "probabilities": probabilities,
    }
