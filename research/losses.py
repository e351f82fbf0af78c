"""Loss terms as array functions: one value for every example, in f32, not reduced."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Integer, Num, Shaped
from research.errors import UserError


def cross_entropy(
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"],
    *,
    smoothing: float = 0.0,
) -> Float[Array, "*batch"]:
    """-sum_c p_c log softmax(logits)_c, in nats, for each example.

    Labels are class numbers or probabilities. Smoothing takes that share of p from the labels and spreads it evenly
    over all classes (Szegedy et al. 2016, section 7). A number that is no class gives NaN: it is never taken for
    another class, nor for none.

    Raises UserError if the shape or the type of the labels does not fit.
    """
    check_labels(logits, labels)
    logits = logits.astype(jnp.float32)
    # The maximum is taken off the logits and not added back: their difference keeps its digits however large they are.
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    normalizer = jnp.log(jnp.sum(jnp.exp(shifted), -1))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        # Clipped for the look-up alone: JAX would take -1 for the last class.
        found = jnp.clip(labels, 0, logits.shape[-1] - 1)
        chosen = jnp.take_along_axis(shifted, found[..., None].astype(jnp.int32), -1)[..., 0]
        loss = jnp.where(labels == found, normalizer - chosen, jnp.nan)
    else:
        labels = labels.astype(jnp.float32)
        # A class of probability 0 may have a logit of -inf.
        loss = -jnp.sum(jnp.where(labels == 0, 0, labels * (shifted - normalizer[..., None])), -1)
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (normalizer - shifted.mean(-1))
    return loss


def focal(gamma: float) -> Callable:
    """A function of logits and labels: the cross-entropy of each example times (1 - p)^gamma, p = exp(-cross-entropy).

    Examples that are already right weigh less (Lin et al. 2017, equation 4, with a softmax); gamma 0 is the
    cross-entropy. Raises UserError for a negative gamma.
    """
    if gamma < 0:
        raise UserError(f"gamma is {gamma}; the focal loss takes 0 (the cross-entropy) or more.")

    def loss(
        logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch"]:
        entropy = cross_entropy(logits, labels)
        return (-jnp.expm1(-entropy)) ** gamma * entropy

    return loss


def hits(
    logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """1 if the largest logit is that of the label (or of its largest probability), else 0. NaN if a logit is NaN:
    argmax would name a class like any other.
    """
    check_labels(logits, labels)
    target = labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(-1)
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, logits.argmax(-1) == target).astype(jnp.float32)


def unit(x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
    """x / |x| along the last axis. 0 stays 0, and its gradient is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-12))


def check_labels(logits: Shaped[Array, "..."], labels: Shaped[Array, "..."]) -> None:
    """Raises UserError unless the labels are int [...] or float [..., C] for logits [..., C]."""
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if not integer and not jnp.issubdtype(labels.dtype, jnp.floating):
        raise UserError(f"labels must be class numbers (int) or probabilities (float); they are {labels.dtype}.")
    kind = "class numbers" if integer else "probabilities"
    expected = logits.shape[:-1] if integer else logits.shape
    if labels.shape != expected:
        raise UserError(
            f"logits {list(logits.shape)} expect labels that are {kind} to have shape {list(expected)}; "
            f"they are {labels.dtype}{list(labels.shape)}."
        )


def kl_divergence(
    logits: Float[Array, "*batch classes"], other: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """KL(p || q) = sum_c p_c (log p_c - log q_c), in nats, of p = softmax(logits) and q = softmax(other)."""
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (logits, other))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def squared_error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """(predictions - targets) ** 2, entry by entry."""
    return _difference(predictions, targets) ** 2


def absolute_error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """|predictions - targets|, entry by entry."""
    return jnp.abs(_difference(predictions, targets))


def huber(delta: float) -> Callable:
    """The error of Huber 1964, `(predictions, targets) -> error`, entry by entry: d ** 2 / 2 for |d| <= delta, and its
    tangent delta (|d| - delta / 2) beyond. As delta grows it becomes half the squared error.
    """

    def error(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
        size = absolute_error(predictions, targets)
        near = jnp.minimum(size, delta)
        return near * (size - near / 2)

    return error


def check_targets(predictions: Shaped[Array, "..."], targets: Shaped[Array, "..."]) -> None:
    """Raises UserError unless predictions and targets have the same shape."""
    if predictions.shape != targets.shape:
        raise UserError(
            f"predictions {list(predictions.shape)} expect targets of their shape; they have {list(targets.shape)}."
        )


def _difference(predictions: Num[Array, "*batch"], targets: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    return predictions.astype(jnp.float32) - targets.astype(jnp.float32)
