"""The measure of a regression's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from research import losses
from research.axes import Array, Float, Num, Scalar
from research.core import Mean, Rows, Trained, weighted_mean
from research.fields import example_weights, field


class R2(NamedTuple):
    """The sums for the coefficient of determination. States add up.

    For each output, `residual` is the weighted sum of (target - prediction) ** 2; `first` and `second` are the weighted
    sums of target - center and of (target - center) ** 2, for a fixed center. `weight` is the sum of the weights.
    """

    residual: Float[Array, " outputs"]
    first: Float[Array, " outputs"]
    second: Float[Array, " outputs"]
    weight: Scalar

    def value(self) -> Scalar | float:
        """Return the mean over the outputs of 1 - residual / (sum of squares around the targets' mean).

        This equals scikit-learn's `r2_score`: a constant target scores 1 if it is predicted exactly, otherwise 0. With
        fewer than two examples the result is NaN. Targets count as constant if their spread is below a thousandth of
        their distance from the center, because f32 sums hold no digits of such a spread.
        """
        squares = self.second - self.first**2 / (self.weight + (self.weight == 0))
        constant = squares <= 1e-6 * self.second
        score = 1 - self.residual / (squares + constant * (1 - squares))
        score = (score * (1 - constant) + constant * (self.residual == 0)).mean()
        return score + (np.nan if self.weight < 2 else 0)


def measure_regression(*, inputs: str = "features", targets: str = "target", center: float = 0.0) -> Callable:
    """Return the measure of a regression's Eval: mse, mae, r2, and rows of target, prediction and error.

    The error is prediction - target. Targets have the predictions' shape; means are over examples and entries. `center`
    is a number near the targets. It changes no metric, but r2 is more precise with it if the targets' mean is large
    compared with their spread. Examples of mask 0 do not count.

    The measure raises UserError if the batch lacks a field or the shapes differ.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        x, y = field(batch, inputs), field(batch, targets)
        predictions = trained(x)
        losses.check_targets(predictions, y)
        weights = example_weights(batch, len(x))

        def mean(values: Float[Array, "batch ..."]) -> Mean:
            return weighted_mean(values.reshape(len(x), -1).mean(-1), weights)

        squared = losses.squared_error(predictions, y)
        return {
            "mse": mean(squared),
            "mae": mean(losses.absolute_error(predictions, y)),
            "r2": r2(predictions, y, weights=weights, center=center),
            "rows": Rows({"target": y, "prediction": predictions, "error": predictions - y}, weights),
        }

    return measure


def r2(
    predictions: Num[Array, " batch *outputs"],
    targets: Num[Array, " batch *outputs"],
    *,
    weights: Num[Array, " batch"],
    center: float = 0.0,
) -> R2:
    """Compute the R2 of predictions and targets; each entry of an example is an output."""
    targets = targets.astype(jnp.float32).reshape(len(targets), -1)
    predictions = predictions.astype(jnp.float32).reshape(targets.shape)
    centered = targets - center
    sums = weighted_mean({"e": (predictions - targets) ** 2, "y": centered, "y2": centered**2}, weights)
    return R2(sums.sum["e"], sums.sum["y"], sums.sum["y2"], sums.weight)
