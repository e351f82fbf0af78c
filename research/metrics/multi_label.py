"""The measure of a multi-label classifier's evaluation, and predictions for records without labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import losses
from research.axes import Array, Float, Num, Scalar
from research.core import Rows, Trained, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.metrics.scores import Finish


class F1(NamedTuple):
    """Weighted counts of right positives and of mistakes (false positives and false negatives). States add up."""

    right: Float[Array, " classes"]
    wrong: Float[Array, " classes"]

    def value(self) -> Scalar | float:
        """Return the mean over labels of 2 right / (2 right + wrong); a label without any counts as 0."""
        total = 2 * self.right + self.wrong
        return (2 * self.right / (total + (total == 0))).mean()


def measure_multi_label(
    *, inputs: str = "features", labels: str = "labels", threshold: float | tuple[float, ...] = 0.5
) -> Callable:
    """Return the measure of a multi-label classifier's Eval: loss, subset_accuracy, hamming, F1 and rows.

        loss               binary cross-entropy in nats, the mean over labels
        subset_accuracy    the fraction of examples with all labels right (scikit-learn's accuracy_score)
        hamming            the fraction of wrong labels
        f1_micro f1_macro  of the counts over all labels, and the mean over labels, as scikit-learn's f1_score; 0
                           without positives
        rows               labels, predictions, probabilities and logits [classes] of each example

    Labels are 0 or 1. A label is predicted if its probability exceeds `threshold`, one number or one per label.
    Examples of mask 0 do not count; other masks are weights. The measure raises UserError if the batch lacks a field,
    the shapes differ, or a threshold is not between 0 and 1.
    """
    cut = _cut(threshold)

    def measure(trained: Trained, batch: Mapping) -> dict:
        x, y = field(batch, inputs), field(batch, labels)
        logits = trained(x)
        weights = example_weights(batch, len(x))
        loss = losses.binary_cross_entropy(logits, y).mean(-1)
        predicted, true = logits > cut, y > 0
        w = jnp.where(jnp.isnan(logits), jnp.nan, weights[:, None])
        right, wrong = ((w * mask).sum(0) for mask in (predicted & true, predicted != true))
        undefined = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, 0)
        return {
            "loss": weighted_mean(loss, weights),
            "subset_accuracy": weighted_mean((predicted == true).all(-1) + undefined, weights),
            "hamming": weighted_mean((predicted != true).mean(-1) + undefined, weights),
            "f1_micro": F1(right.sum(keepdims=True), wrong.sum(keepdims=True)),
            "f1_macro": F1(right, wrong),
            "rows": Rows(
                {
                    "labels": y,
                    "predictions": predicted,
                    "probabilities": jax.nn.sigmoid(logits),
                    "logits": logits,
                    "weight": weights,
                },
                weights,
            ),
        }

    return measure


def label_ranking() -> Finish:
    """Return a `finish` that computes average_precision_micro, average_precision_macro, auc_macro and auc_labels.

    They equal scikit-learn's `average_precision_score` and `roc_auc_score`. auc_labels [classes] has the area of each
    label. A label that no example, or every example, has is left out of the means of auc; its own area is NaN. Raises
    UserError without examples and for logits that are not finite.
    """

    def finish(results: Mapping) -> dict[str, float | Float[np.ndarray, " classes"]]:
        from sklearn import metrics

        rows = results.get("rows")
        if rows is None or "logits" not in rows:
            raise UserError("label_ranking needs the rows of measure_multi_label; the measure returns none.")
        y, logits, weight = (np.asarray(rows[name]) for name in ("labels", "logits", "weight"))
        if not len(y) or not np.isfinite(logits).all():
            raise UserError("label_ranking needs examples with finite logits.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the number itself shows that it is undefined
            average = lambda kind: metrics.average_precision_score(y, logits, average=kind, sample_weight=weight)
            micro, macro = average("micro"), average("macro")
            both = (y > 0).any(0) & (y == 0).any(0)
            auc = [
                metrics.roc_auc_score(y[:, c], logits[:, c], sample_weight=weight) if both[c] else np.nan
                for c in range(y.shape[1])
            ]
        mean = np.nanmean(auc) if both.any() else np.nan
        return {
            "average_precision_micro": micro,
            "average_precision_macro": macro,
            "auc_macro": mean,
            "auc_labels": np.array(auc),
        }

    return finish


def predict_labels(*, inputs: str = "features", threshold: float | tuple[float, ...] = 0.5) -> Callable:
    """Return the `predict` of a multi-label Experiment: prediction, 0 or 1 of each label, and probabilities."""
    cut = _cut(threshold)

    def predict(trained: Trained, batch: Mapping) -> dict[str, Num[Array, "batch ..."]]:
        logits = trained(field(batch, inputs))
        return {"prediction": (logits > cut).astype(jnp.int32), "probabilities": jax.nn.sigmoid(logits)}

    return predict


def _cut(threshold):
    """Return the logit of a probability."""
    p = np.asarray(threshold, np.float64)
    if not ((p > 0) & (p < 1)).all():
        raise UserError(f"threshold={threshold}; expected a probability between 0 and 1, or one for each label.")
    return np.log(p / (1 - p)).astype(np.float32)
