"""Losses of yes-or-no decisions, one per entry: a binary label, or each of several labels of an example."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Num
from research.errors import UserError, check_range


def binary_cross_entropy(
    logits: Float[Array, "*batch"], labels: Num[Array, "*batch"], *, positive_weight: float | Float[Array, "..."] = 1.0
) -> Float[Array, "*batch"]:
    """Return -(w y log p + (1 - y) log(1 - p)) with p = sigmoid(logit) for each entry, in nats.

    Labels y are 0, 1 or a probability; another value gives NaN. `positive_weight` w is a number, or one per label that
    broadcasts against the last axes, for example negatives / positives of each label. Raises UserError if labels and
    logits differ in shape.
    """
    x, y = _checked(logits, labels)
    loss = _times(positive_weight * y, jax.nn.softplus(-x)) + _times(1 - y, jax.nn.softplus(x))
    return _defined(loss, y)


def binary_focal(gamma: float, *, alpha: float | None = None) -> Callable:
    """Return the focal loss (logits, labels) -> loss per entry, in nats (Lin et al. 2017, equation 5).

    With p the probability of the true label, the loss is -(1 - p)^gamma log p. `alpha` multiplies it for positives, and
    1 - alpha for negatives. With gamma 0 and no alpha it equals `binary_cross_entropy`. Labels are 0, 1 or a
    probability, which mixes both terms. Raises UserError for a negative gamma and for an alpha outside 0..1.
    """
    check_range("binary_focal", gamma=(gamma, 0, float("inf")), alpha=(0.5 if alpha is None else alpha, 0, 1))
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def loss(logits: Float[Array, "*batch"], labels: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
        x, y = _checked(logits, labels)

        def term(x):
            return jax.nn.sigmoid(-x) ** gamma * jax.nn.softplus(-x)

        return _defined(_times(positive * y, term(x)) + _times(negative * (1 - y), term(-x)), y)

    return loss


def hinge(logits: Float[Array, "*batch"], labels: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return max(0, 1 - s x) for each logit x, with s = 1 for label 1 and s = -1 for label 0; otherwise NaN.

    It is the loss of a support vector machine (Cortes & Vapnik 1995): entries beyond the margin have no gradient.
    Raises UserError if labels and logits differ in shape.
    """
    x, y = _checked(logits, labels)
    return jnp.where((y == 0) | (y == 1), jax.nn.relu(1 - (2 * y - 1) * x), jnp.nan)


def _checked(logits, labels):
    if logits.shape != labels.shape:
        raise UserError(
            f"labels {list(labels.shape)} must have the shape of the logits, {list(logits.shape)}: one yes or no per "
            "entry. For class numbers use cross_entropy."
        )
    return logits.astype(jnp.float32), labels.astype(jnp.float32)


def _times(weight, value):
    """Return weight * value; a value without weight may be infinite."""
    return jnp.where(weight == 0, 0, weight * jnp.where(weight == 0, 0, value))


def _defined(loss, labels):
    return jnp.where((labels >= 0) & (labels <= 1), loss, jnp.nan)
