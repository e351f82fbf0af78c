"""The measure of a classifier's evaluation, and predictions for records without labels."""

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
from research.fields import arguments, class_numbers, example_weights


class Confusion(NamedTuple):
    """The confusion matrix in f32: rows are true classes, columns are predicted classes. States add up."""

    counts: Float[Array, "classes classes"]

    def value(self) -> Float[Array, "classes classes"]:
        """Return the counts."""
        return self.counts


def confusion(
    labels: Integer[Array, " batch"],
    predictions: Integer[Array, " batch"],
    *,
    num_classes: int,
    weights: Num[Array, " batch"],
) -> Confusion:
    """Compute the Confusion of labels and predictions. A label out of range counts in no cell."""
    # Trap: a negative index would count from the end.
    labels = jnp.where(labels < 0, num_classes, labels)
    zeros = jnp.zeros((num_classes, num_classes), jnp.float32)
    return Confusion(zeros.at[labels, predictions].add(weights, mode="drop"))


class Reliability(NamedTuple):
    """The sums behind a reliability diagram, in f32. States add up.

    Each confidence bin has the `count` of its examples and the sums of their `confidence` and `hits`.
    """

    count: Float[Array, " bins"]
    confidence: Float[Array, " bins"]
    hits: Float[Array, " bins"]

    def value(self) -> Float[np.ndarray, "bins 3"]:
        """Return the count, mean confidence and accuracy of each bin; in an empty bin the last two are NaN."""
        count = np.asarray(self.count)
        size = np.where(count == 0, np.nan, count)
        return np.stack([count, self.confidence / size, self.hits / size], -1)


class CalibrationError(NamedTuple):
    """The state of the expected calibration error (Guo et al. 2017, equation 5). States add up."""

    bins: Reliability

    def value(self) -> Scalar | float:
        """Return sum_b |hits_b - confidence_b| / count, or 0 without examples."""
        count = self.bins.count.sum()
        return abs(self.bins.hits - self.bins.confidence).sum() / (count + (count == 0))


def reliability(
    confidence: Float[Array, " batch"], hits: Num[Array, " batch"], *, bins: int, weights: Num[Array, " batch"]
) -> Reliability:
    """Compute the Reliability of confidences and hits in `bins` of equal width over 0..1; each includes its upper end.

    The ends are the f32 numbers nearest to k / bins. A NaN confidence makes its bin NaN, and with it the calibration
    error.
    """
    weights = jnp.asarray(weights, jnp.float32)
    # Trap: confidence * bins is rounded, 0.15 * 100 to a number above 15.
    ends = np.asarray(np.arange(1, bins) / bins, np.float32)
    index = jnp.searchsorted(ends, confidence, method="compare_all")
    # Trap: padding may be NaN, and NaN * 0 is NaN.
    columns = [weights, *(jnp.where(weights == 0, 0, x * weights) for x in (confidence, hits))]
    return Reliability(*(jnp.zeros(bins, jnp.float32).at[index].add(x) for x in columns))


def top_hits(logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"], k: int) -> Float[Array, " batch"]:
    """Return 1 if the label is among the `k` largest logits, otherwise 0, in f32.

    Of equal logits, the one of the higher class ranks first, as in scikit-learn's `top_k_accuracy_score`. A label out
    of range is a miss. Logits with a NaN have no order, and the result is NaN.
    """
    classes = jnp.arange(logits.shape[-1])
    own = jnp.take_along_axis(logits, jnp.clip(labels, 0, len(classes) - 1)[:, None], -1)
    ranked_above = (logits > own) | ((logits == own) & (classes > labels[:, None]))
    hit = (ranked_above.sum(-1) < k) & (labels >= 0) & (labels < len(classes))
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, hit.astype(jnp.float32))


def brier(probabilities: Float[Array, "batch classes"], labels: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """Compute the Brier score, sum_c (p_c - [c = label]) ** 2, of each example.

    For two classes it is half of that sum, as in scikit-learn's `brier_score_loss`. A label out of range yields NaN.
    """
    num_classes = probabilities.shape[-1]
    errors = probabilities - jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    score = jnp.sum(errors**2, -1) / (2 if num_classes == 2 else 1)
    return jnp.where((labels >= 0) & (labels < num_classes), score, jnp.nan)


def measure_classification(
    *, num_classes: int, inputs: str | tuple[str, ...] = "image", labels: str = "label", top: tuple[int, ...] = (),
    bins: int = 15, keep: int = 20,
) -> Callable:  # fmt: skip
    """Return the measure of a classifier's Eval: loss, accuracy, calibration, confusion and rows.

        loss              cross-entropy in nats (scikit-learn's log loss)
        accuracy          the fraction of hits; top_<k> for each k of `top`
        brier             the Brier score
        ece               the expected calibration error over `bins` confidence bins; reliability holds the bins
        confusion         the confusion matrix
        rows              label, weight, prediction, confidence, loss and, for at most `keep` classes, probabilities
                          and log_odds (see `log_odds`)

    Labels are class indices. Examples of mask 0 do not count; other masks are weights. NaN logits make the metrics NaN,
    and count in no cell of the confusion matrix. The `finish=` functions of `research.metrics.scores` add metrics of
    confusion and rows (precision, recall, F1, ROC and precision-recall curves).

    The measure raises UserError if the batch lacks a field or the model has another number of classes.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        x, y = arguments(batch, inputs), class_numbers(batch, labels)
        logits = trained(*x)
        if logits.shape[-1] != num_classes:
            raise UserError(f"the model returns {logits.shape[-1]} classes; the measure expects {num_classes}.")
        weights = example_weights(batch, len(logits))
        loss, hits = losses.cross_entropy(logits, y), losses.hits(logits, y)
        preds = predicted(logits)
        calibration = reliability(preds["confidence"], hits, bins=bins, weights=weights)
        rows = {"label": y, "weight": weights, "loss": loss, **preds}
        if num_classes <= keep:
            rows["log_odds"] = log_odds(logits)
        else:
            rows.pop("probabilities")
        return {
            "loss": weighted_mean(loss, weights),
            "accuracy": weighted_mean(hits, weights),
            **{f"top_{k}": weighted_mean(top_hits(logits, y, k), weights) for k in top},
            "brier": weighted_mean(brier(preds["probabilities"], y), weights),
            "ece": CalibrationError(calibration),
            "reliability": calibration,
            "confusion": confusion(y, preds["prediction"], num_classes=num_classes, weights=weights * ~jnp.isnan(hits)),
            "rows": Rows(rows, weights),
        }

    return measure


def predict_classes(*, inputs: str | tuple[str, ...] = "image") -> Callable:
    """Return the `predict` of a classification Experiment: prediction, confidence, probabilities, as in `predicted`."""

    def predict(trained: Trained, batch: Mapping) -> dict[str, Num[Array, "batch ..."]]:
        return predicted(trained(*arguments(batch, inputs)))

    return predict


def predicted(logits: Float[Array, "batch classes"]) -> dict[str, Num[Array, "batch ..."]]:
    """Return the most likely class (int32), its probability, and the probabilities of all classes (f32)."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return {
        "prediction": logits.argmax(-1).astype(jnp.int32),
        "confidence": probabilities.max(-1),
        "probabilities": probabilities,
    }


def log_odds(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    """Return log(p / (1 - p)) for the probability p of each class, in f32, clipped to finite numbers.

    It increases with p, and also ranks predictions whose p is rounded to 1.
    """
    logits = logits.astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits)
    largest = jnp.arange(logits.shape[-1]) == logits.argmax(-1, keepdims=True)
    # The largest p is compared with the others, because 1 - p may be rounded to 0; any other p is at most 1/2.
    others = jax.nn.logsumexp(jnp.where(largest, -jnp.inf, logits), -1, keepdims=True)
    result = jnp.where(largest, logits - others, log_p - jnp.log1p(-jnp.exp(log_p)))
    return jnp.clip(result, jnp.finfo(jnp.float32).min, jnp.finfo(jnp.float32).max)
