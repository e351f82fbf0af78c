"""What the evaluation of a regression measures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import losses
from research.core import Rows, weighted_mean
from research.fields import example_weights, field


class R2(NamedTuple):
    """The coefficient of determination, still open. States add up.

    For every output k: `residual` [K] is the weighted sum of (target - prediction) ** 2, `first` and `second` [K] are
    those of the target's distance from a fixed number and of its square; `weight` is the sum of the weights.
    """

    residual: jax.Array
    first: jax.Array
    second: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """The mean over the outputs of 1 - residual / (sum of squares around the targets' mean), as scikit-learn's
        `r2_score`: a constant target counts 1 where it is predicted exactly, else 0; of fewer than two examples it is
        NaN. Targets count as constant whose spread is below a thousandth of their distance from the fixed number: it
        has no digits in sums of f32.
        """
        squares = self.second - self.first**2 / (self.weight + (self.weight == 0))
        constant = squares <= 1e-6 * self.second
        score = 1 - self.residual / (squares + constant * (1 - squares))
        score = (score * (1 - constant) + constant * (self.residual == 0)).mean()
        return score + (np.nan if self.weight < 2 else 0)


def measure_regression(*, inputs: str = "features", targets: str = "target", center: float = 0.0):
    """The measure of an Eval: mse, mae, r2, and rows of target, prediction and error (prediction - target).

    Targets are [B] or [B, ...], of the predictions' shape; means are over examples and entries. `center` is a number
    near the targets: no figure depends on it, but r2 has more digits where their mean is large beside their spread.
    Examples of mask 0 do not count.

    The measure raises UserError where the batch lacks a field or the shapes differ.
    """

    def measure(apply, params, stats, batch):
        x, y = field(batch, inputs), field(batch, targets)
        predictions, _ = apply(params, stats, x, train=False)
        losses.check_targets(predictions, y)
        weights = example_weights(batch, len(x))

        def mean(values):
            return weighted_mean(values.reshape(len(x), -1).mean(-1), weights)

        squared = losses.squared_error(predictions, y)
        return {
            "mse": mean(squared),
            "mae": mean(losses.absolute_error(predictions, y)),
            "r2": r2(predictions, y, weights=weights, center=center),
            "rows": Rows({"target": y, "prediction": predictions, "error": predictions - y}, weights),
        }

    return measure


def r2(predictions, targets, *, weights, center: float = 0.0) -> R2:
    """The R2 of predictions and targets [B, ...] with weights [B]; every entry of an example is an output."""
    targets = targets.astype(jnp.float32).reshape(len(targets), -1)
    predictions = predictions.astype(jnp.float32).reshape(targets.shape)
    away = targets - center
    sums = weighted_mean({"e": (predictions - targets) ** 2, "y": away, "y2": away**2}, weights)
    return R2(sums.sum["e"], sums.sum["y"], sums.sum["y2"], sums.weight)
