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
    """1 where the largest logit is the label (or the label's largest probability), else 0: -> [...] f32."""
    check_labels(logits, labels)
    target = labels if jnp.issubdtype(labels.dtype, jnp.integer) else labels.argmax(-1)
    return (logits.argmax(-1) == target).astype(jnp.float32)


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
