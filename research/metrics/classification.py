"""The measure of a classifier's evaluation, and its predictions for records without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import losses
from research.axes import Array, Float, Integer, Num, Scalar
from research.core import Rows, Trained, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


class Confusion(NamedTuple):
    """How often each true class (row) was predicted as each class (column), in f32. States add up."""

    counts: Float[Array, "classes classes"]

    def value(self) -> Float[Array, "classes classes"]:
        """The counts; exact up to 2 ** 24 in a cell."""
        return self.counts


def confusion(
    labels: Integer[Array, " batch"],
    predictions: Integer[Array, " batch"],
    *,
    num_classes: int,
    weights: Num[Array, " batch"],
) -> Confusion:
    """The Confusion of labels and predictions. A label out of range counts in no cell."""
    # A negative index would count from the end.
    labels = jnp.where(labels < 0, num_classes, labels)
    zeros = jnp.zeros((num_classes, num_classes), jnp.float32)
    return Confusion(zeros.at[labels, predictions].add(weights, mode="drop"))


class Reliability(NamedTuple):
    """The worth of a classifier's confidence: for each bin of confidence the `count` of examples, and the sums of
    their `confidence` and `hits`, in f32. States add up.
    """

    count: Float[Array, " bins"]
    confidence: Float[Array, " bins"]
    hits: Float[Array, " bins"]

    def value(self) -> Float[np.ndarray, "bins 3"]:
        """Count, mean confidence and accuracy of each bin; the last two are NaN if it is empty."""
        count = np.asarray(self.count)
        size = np.where(count == 0, np.nan, count)
        return np.stack([count, self.confidence / size, self.hits / size], -1)


class CalibrationError(NamedTuple):
    """The expected calibration error of Guo et al. 2017 (equation 5), still open. States add up."""

    bins: Reliability

    def value(self) -> Scalar | float:
        """sum_b |hits_b - confidence_b| / count; 0 if nothing was counted."""
        count = self.bins.count.sum()
        return abs(self.bins.hits - self.bins.confidence).sum() / (count + (count == 0))


def reliability(
    confidence: Float[Array, " batch"], hits: Num[Array, " batch"], *, bins: int, weights: Num[Array, " batch"]
) -> Reliability:
    """The Reliability of confidences and hits in `bins` of equal width over 0..1; each includes its upper end.

    A confidence that is NaN makes its bin NaN, and with it the calibration error.
    """
    weights = jnp.asarray(weights, jnp.float32)
    at = jnp.clip(jnp.ceil(jnp.nan_to_num(confidence) * bins).astype(jnp.int32) - 1, 0, bins - 1)
    # Padding may hold NaN, which times 0 is still NaN.
    columns = [weights, *(jnp.where(weights == 0, 0, x * weights) for x in (confidence, hits))]
    return Reliability(*(jnp.zeros(bins, jnp.float32).at[at].add(x) for x in columns))


def top_hits(logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"], k: int) -> Float[Array, " batch"]:
    """1 if the label is among the `k` largest logits, else 0, in f32.

    Of equal logits those of the higher class count as larger, as in scikit-learn's `top_k_accuracy_score`. A label
    that is no class is no hit; logits with a NaN have no order, and give NaN.
    """
    classes = jnp.arange(logits.shape[-1])
    own = jnp.take_along_axis(logits, jnp.clip(labels, 0, len(classes) - 1)[:, None], -1)
    before = (logits > own) | ((logits == own) & (classes > labels[:, None]))
    hit = (before.sum(-1) < k) & (labels >= 0) & (labels < len(classes))
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, hit.astype(jnp.float32))


def brier(probabilities: Float[Array, "batch classes"], labels: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """sum_c (p_c - [c = label]) ** 2, and half of it for two classes, as scikit-learn's `brier_score_loss`. A label
    that is no class gives NaN.
    """
    num_classes = probabilities.shape[-1]
    away = probabilities - jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    score = jnp.sum(away**2, -1) / (2 if num_classes == 2 else 1)
    return jnp.where((labels >= 0) & (labels < num_classes), score, jnp.nan)


def measure_classification(
    *, num_classes: int, inputs: str = "image", labels: str = "label", top: tuple[int, ...] = (), bins: int = 15,
    keep: int = 20,
) -> Callable:  # fmt: skip
    """The measure of an Eval: loss (nats; scikit-learn's log loss), accuracy, top_<k> for each k of `top`, brier, ece
    (the expected calibration error over `bins`), reliability, confusion, and rows of label, prediction, confidence,
    loss and, up to `keep` classes, probabilities for each example.

    Labels are class numbers; examples of mask 0 do not count. Logits with a NaN make the numbers NaN, and are in no
    cell of the confusion. Other scores of confusion and rows (precision, recall, F1, ROC and precision-recall curves)
    are added by `finish=`: see `research.metrics.scores`.

    The measure raises UserError if the batch lacks a field or the model has another number of classes.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        x, y = field(batch, inputs), field(batch, labels)
        logits = trained(x)
        if logits.shape[-1] != num_classes:
            raise UserError(f"the model gives {logits.shape[-1]} classes, the measure expects {num_classes}.")
        weights = example_weights(batch, len(x))
        loss, hits = losses.cross_entropy(logits, y), losses.hits(logits, y)
        found = predicted(logits)
        calibration = reliability(found["confidence"], hits, bins=bins, weights=weights)
        rows = {"label": y, "loss": loss, **found}
        if num_classes > keep:
            rows.pop("probabilities")
        return {
            "loss": weighted_mean(loss, weights),
            "accuracy": weighted_mean(hits, weights),
            **{f"top_{k}": weighted_mean(top_hits(logits, y, k), weights) for k in top},
            "brier": weighted_mean(brier(found["probabilities"], y), weights),
            "ece": CalibrationError(calibration),
            "reliability": calibration,
            "confusion": confusion(y, found["prediction"], num_classes=num_classes, weights=weights * ~jnp.isnan(hits)),
            "rows": Rows(rows, weights),
        }

    return measure


def predict_classes(*, inputs: str = "image") -> Callable:
    """The `predict` of an Experiment: {"prediction", "confidence", "probabilities"}, as `predicted`."""

    def predict(trained: Trained, batch: Mapping) -> dict[str, Num[Array, "batch ..."]]:
        return predicted(trained(field(batch, inputs)))

    return predict


def predicted(logits: Float[Array, "batch classes"]) -> dict[str, Num[Array, "batch ..."]]:
    """The most likely class (int32), its probability, and the probabilities of all classes (f32)."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return {
        "prediction": logits.argmax(-1).astype(jnp.int32),
        "confidence": probabilities.max(-1),
        "probabilities": probabilities,
    }
