"""Losses of a classifier with one label per example, and label checks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Integer, Shaped
from research.errors import UserError, check_range


def cross_entropy(
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"],
    *,
    smoothing: float = 0.0,
) -> Float[Array, "*batch"]:
    """Return the softmax cross-entropy of each example, -sum_c p_c log softmax(logits)_c, in nats.

    Labels are class indices or probabilities. Label smoothing replaces p by (1 - smoothing) p + smoothing / classes
    (Szegedy et al. 2016, section 7). A class index out of range gives NaN: it is neither clipped to another class nor
    ignored.

    Raises UserError if the labels have the wrong shape or dtype.
    """
    check_labels(logits, labels)
    logits = logits.astype(jnp.float32)
    # Subtract the maximum and do not add it back: the difference keeps full precision even for very large logits.
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    normalizer = jnp.log(jnp.sum(jnp.exp(shifted), -1))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        # Clip for the look-up only: JAX would read the index -1 as the last class.
        clipped = jnp.clip(labels, 0, logits.shape[-1] - 1)
        label_logits = jnp.take_along_axis(shifted, clipped[..., None].astype(jnp.int32), -1)[..., 0]
        loss = jnp.where(labels == clipped, normalizer - label_logits, jnp.nan)
    else:
        labels = labels.astype(jnp.float32)
        # A class with probability 0 may have a logit of -inf, and 0 * inf would be NaN.
        loss = -jnp.sum(jnp.where(labels == 0, 0, labels * (shifted - normalizer[..., None])), -1)
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (normalizer - shifted.mean(-1))
    return loss


def focal(gamma: float) -> Callable:
    """Return the focal loss as a function (logits, labels) -> loss per example, in nats.

    The loss is (1 - p)^gamma times the cross-entropy, with p = exp(-cross-entropy) (Lin et al. 2017, equation 4, with
    a softmax). It down-weights examples that are already classified well. With gamma 0 it equals the cross-entropy.
    Raises UserError for a negative gamma.
    """
    if gamma < 0:
        raise UserError(f"gamma is {gamma}; expected 0 (the cross-entropy) or more for the focal loss.")

    def loss(
        logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch"]:
        entropy = cross_entropy(logits, labels)
        return (-jnp.expm1(-entropy)) ** gamma * entropy

    return loss


def hits(
    logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"] | Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Return 1 for each example whose largest logit belongs to the label, otherwise 0.

    For probabilities, the label is the most probable class. An example with a NaN logit gives NaN, because argmax
    would select a class silently. Raises UserError if the labels have the wrong shape or dtype.
    """
    check_labels(logits, labels)
    target = labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(-1)
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, logits.argmax(-1) == target).astype(jnp.float32)


def check_labels(logits: Shaped[Array, "..."], labels: Shaped[Array, "..."]) -> None:
    """Raise UserError unless the labels are int [...] or float [..., C] for logits [..., C]."""
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if not integer and not jnp.issubdtype(labels.dtype, jnp.floating):
        raise UserError(f"labels must be class indices (int) or probabilities (float); they are {labels.dtype}.")
    kind = "class indices" if integer else "probabilities"
    expected = logits.shape[:-1] if integer else logits.shape
    if labels.shape != expected:
        raise UserError(
            f"labels are {labels.dtype}{list(labels.shape)}; with logits {list(logits.shape)}, labels that are {kind} "
            f"must have shape {list(expected)}."
        )


def kl_divergence(
    logits: Float[Array, "*batch classes"], other: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Return KL(p || q) = sum_c p_c (log p_c - log q_c) of p = softmax(logits) and q = softmax(other), in nats.

    A class with p_c = 0 (a logit of -inf) adds 0. With p_c > 0 and q_c = 0, the divergence is infinite.
    """
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (logits, other))
    return _expectation(log_p, log_p - log_q)


def entropy(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
    """Return -sum_c p_c log p_c of p = softmax(logits), in nats. A class with p_c = 0 (a logit of -inf) adds 0."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -_expectation(log_p, log_p)


def _expectation(
    log_p: Float[Array, "*batch classes"], values: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Return sum_c p_c values_c; values with p_c = 0 may be infinite or NaN."""
    p = jnp.exp(log_p)
    return jnp.sum(p * jnp.where(p == 0, 0, values), -1)


def multiclass_hinge(
    logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Return max(0, 1 + the largest other logit - the label's logit) (Crammer & Singer 2001).

    A label out of range gives NaN. Raises UserError if the labels have the wrong shape, or fewer than two classes.
    """
    check_labels(logits, labels)
    if logits.shape[-1] < 2:
        raise UserError(f"logits {list(logits.shape)} have one class; multiclass_hinge compares at least two.")
    logits = logits.astype(jnp.float32)
    is_label = labels[..., None] == jnp.arange(logits.shape[-1])
    own = jnp.sum(jnp.where(is_label, logits, 0), -1)
    margin = 1 + jnp.max(jnp.where(is_label, -jnp.inf, logits), -1) - own
    return jnp.where(is_label.any(-1), jax.nn.relu(margin), jnp.nan)


def class_balanced(counts: Integer[Array, " classes"], *, beta: float = 0.999) -> Float[np.ndarray, " classes"]:
    """Return class weights (1 - beta) / (1 - beta^n) for n training examples of a class, with mean 1.

    Cui et al. 2019, equation 2: the effective number of examples grows ever more slowly with n. Use them as
    `classify(class_weights=...)`. Limits: with beta 0 all weights are 1; with beta 1 they are proportional to 1 / n.
    Raises UserError for a count below 1 and for beta outside 0..1.
    """
    check_range("class_balanced", beta=(beta, 0, 1))
    counts = np.asarray(counts, np.float64)
    if counts.min() < 1:
        raise UserError(f"class_balanced: class {counts.argmin()} has {counts.min():.0f} examples; expected 1 or more.")
    weights = (
        1 / counts if beta == 1 else (1 - beta) / -np.expm1(counts * np.log(beta)) if beta else np.ones(len(counts))
    )
    return (weights / weights.mean()).astype(np.float32)
