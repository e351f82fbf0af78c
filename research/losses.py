"""Loss terms as array functions: one value for every example, in f32, not reduced."""

import jax
import jax.numpy as jnp

from research.errors import UserError


def cross_entropy(logits, labels, *, smoothing: float = 0.0):
    """-sum_c p_c log softmax(logits)_c, in nats: [..., C] and labels -> [...] f32.

    Labels are class numbers, int [...], or probabilities, float [..., C]. Smoothing takes that share of p from
    the labels and spreads it evenly over all C classes (Szegedy et al. 2016, section 7). A class number outside
    0..C-1 gives NaN: it is never taken for another class, nor for none.

    Raises UserError where the labels' shape or type does not fit.
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


def hits(logits, labels):
    """1 where the largest logit is the label (or the label's largest probability), else 0: -> [...] f32. Where a logit
    is NaN it is NaN: argmax would name a class like any other.
    """
    check_labels(logits, labels)
    target = labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(-1)
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, logits.argmax(-1) == target).astype(jnp.float32)


def unit(x):
    """x / |x| along the last axis: [..., D] -> f32 of the same shape. 0 stays 0, and its gradient is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-12))


def check_labels(logits, labels):
    """Raises UserError unless labels are int [...] or float [..., C] for logits [..., C]."""
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


def kl_divergence(logits, other):
    """KL(p || q) = sum_c p_c (log p_c - log q_c), in nats, of p = softmax(logits) and q = softmax(other):
    [..., C], [..., C] -> [...] f32.
    """
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (logits, other))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def squared_error(predictions, targets):
    """(predictions - targets) ** 2, entry by entry: [...] -> [...] f32."""
    return _difference(predictions, targets) ** 2


def absolute_error(predictions, targets):
    """|predictions - targets|, entry by entry: [...] -> [...] f32."""
    return jnp.abs(_difference(predictions, targets))


def huber(delta: float):
    """The error of Huber 1964, `(predictions, targets) -> [...] f32`: d ** 2 / 2 for |d| <= delta, and its tangent
    delta (|d| - delta / 2) beyond. As delta grows it is half the squared error.
    """

    def error(predictions, targets):
        size = absolute_error(predictions, targets)
        near = jnp.minimum(size, delta)
        return near * (size - near / 2)

    return error


def check_targets(predictions, targets):
    """Raises UserError unless predictions and targets have the same shape."""
    if predictions.shape != targets.shape:
        raise UserError(
            f"predictions {list(predictions.shape)} expect targets of their shape; they have {list(targets.shape)}."
        )


def _difference(predictions, targets):
    return predictions.astype(jnp.float32) - targets.astype(jnp.float32)
