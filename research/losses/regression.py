"""Losses of numbers: errors, and negative log-likelihoods of counts and amounts."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp

from research.axes import Array, Float, Num, Shaped
from research.errors import UserError, check_range


def squared_error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return (predictions - targets) ** 2 for each entry, in f32."""
    return _difference(predictions, targets) ** 2


def absolute_error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return |predictions - targets| for each entry, in f32."""
    return jnp.abs(_difference(predictions, targets))


def huber(delta: float) -> Callable:
    """Return the Huber loss as a function (predictions, targets) -> loss per entry (Huber 1964).

    For d = predictions - targets the loss is d ** 2 / 2 if |d| <= delta, and delta (|d| - delta / 2) otherwise. In the
    limit of a large delta it equals half the squared error.
    """

    def error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
        distance = absolute_error(predictions, targets)
        quadratic = jnp.minimum(distance, delta)
        return quadratic * (distance - quadratic / 2)

    return error


def smooth_l1(beta: float) -> Callable:
    """Return the smooth L1 loss (predictions, targets) -> loss per entry (Girshick 2015), which is huber(beta) / beta.

    For d = predictions - targets it is d ** 2 / (2 beta) if |d| <= beta, and |d| - beta / 2 otherwise: its largest
    slope is 1. In the limit beta -> 0 it equals the absolute error. Choose beta by the size of an ordinary error. The
    usual beta = 1 is wrong for targets such as sines and cosines in -1..1 or boxes in fractions of the image: every
    error is then below 1, and the loss is half the squared error, without any robustness to outliers.
    Raises UserError unless beta is above 0.
    """
    if not beta > 0:
        raise UserError(f"smooth_l1(beta={beta}); expected a number above 0, or absolute_error for the limit 0.")
    error = huber(beta)
    return lambda predictions, targets: error(predictions, targets) / beta


def log_cosh(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return log(cosh(predictions - targets)): d ** 2 / 2 for small differences d, and |d| - log 2 for large ones."""
    distance = absolute_error(predictions, targets)
    return distance + jnp.log1p(jnp.exp(-2 * distance)) - math.log(2)


def quantile(q: float) -> Callable:
    """Return the pinball loss (predictions, targets) -> loss per entry (Koenker & Bassett 1978).

    For d = targets - predictions it is q d if d > 0, and (q - 1) d otherwise; the minimum of its mean is the
    q-quantile of the targets. q = 1/2 is half the absolute error. Raises UserError unless 0 < q < 1.
    """
    if not 0 < q < 1:
        raise UserError(f"quantile(q={q}); expected a number between 0 and 1, for example 0.9.")

    def error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
        difference = -_difference(predictions, targets)
        return jnp.maximum(q * difference, (q - 1) * difference)

    return error


def poisson(log_rates: Num[Array, "*batch"], counts: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return rate - count * log rate for each entry: the negative log-likelihood of a count, in nats, without log n!.

    The model predicts the logarithm of the rate. A negative count gives NaN.
    """
    return tweedie(1.0)(log_rates, counts)


def tweedie(power: float) -> Callable:
    """Return the Tweedie loss (log_means, targets) -> loss per entry (Jorgensen 1987), for amounts with many zeros.

    The variance of a target is proportional to mean ** power: 1 is Poisson, 2 the gamma distribution, and between them
    is a compound of both, zero with positive probability. The loss is half the unit deviance, without the terms of the
    target alone: mean ** (2 - power) / (2 - power) - target * mean ** (1 - power) / (1 - power), and at the ends its
    limits mean - target log(mean) and target / mean + log(mean). The model predicts log(mean). A negative target, or 0
    with power 2, gives NaN. Raises UserError for a power outside 1..2.
    """
    check_range("tweedie", power=(power, 1, 2))

    def error(log_means: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
        x, y = log_means.astype(jnp.float32), targets.astype(jnp.float32)
        first = x if power == 2 else jnp.exp((2 - power) * x) / (2 - power)
        second = y * x if power == 1 else y * jnp.exp((1 - power) * x) / (1 - power)
        return jnp.where((y > 0) if power == 2 else (y >= 0), first - second, jnp.nan)

    return error


def check_targets(predictions: Shaped[Array, "..."], targets: Shaped[Array, "..."]) -> None:
    """Raise UserError unless predictions and targets have the same shape."""
    if predictions.shape != targets.shape:
        raise UserError(
            f"predictions {list(predictions.shape)} and targets {list(targets.shape)} must have the same shape."
        )


def _difference(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    return predictions.astype(jnp.float32) - targets.astype(jnp.float32)
