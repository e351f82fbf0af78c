"""Losses of segmentation that compare whole regions: overlap of the predicted and the true pixels of each class.

Logits are [batch, ..., classes] and labels are class numbers [batch, ...]; a loss is a value per example, [batch]. A
pixel whose label is out of range makes the loss of its example NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.errors import check_range
from research.losses.classification import check_labels


def tversky(alpha: float, beta: float, *, smoothing: float = 1.0) -> Callable:
    """Return 1 - the mean over classes of the Tversky index (Salehi, Erdogmus & Gholipour 2017, equation 3).

    The index of a class is (TP + s) / (TP + alpha FP + beta FN + s), with the sums of p g, p (1 - g) and (1 - p) g over
    the pixels of an example, p the softmax probability, g 1 in the region, and s = `smoothing`, which also defines the
    index of a class that is absent. A larger beta punishes missed pixels more. Limits: alpha = beta = 1/2 is `dice`,
    alpha = beta = 1 is 1 - IoU. Raises UserError for negative numbers.
    """
    infinite = float("inf")
    check_range("tversky", alpha=(alpha, 0, infinite), beta=(beta, 0, infinite), smoothing=(smoothing, 0, infinite))

    def loss(
        logits: Float[Array, "batch *space classes"], labels: Integer[Array, " batch *space"]
    ) -> Float[Array, " batch"]:
        p, g = _regions(logits, labels)
        both, predicted, true = (p * g).sum(1), p.sum(1), g.sum(1)
        index = (both + smoothing) / (both + alpha * (predicted - both) + beta * (true - both) + smoothing)
        return 1 - index.mean(-1)

    return loss


def dice(*, smoothing: float = 1.0) -> Callable:
    """Return 1 - the mean over classes of the soft Dice coefficient (Milletari, Navab & Ahmadi 2016).

    The coefficient is 2 (sum p g + s) / (sum p + sum g + 2 s), with s = `smoothing`; see `tversky`.
    """
    return tversky(0.5, 0.5, smoothing=smoothing)


def lovasz(
    logits: Float[Array, "batch *space classes"], labels: Integer[Array, " batch *space"]
) -> Float[Array, " batch"]:
    """Return the Lovasz-softmax loss of each example (Berman, Triki & Blaschko 2018, equation 9, per image).

    It is the convex extension of 1 - IoU to probabilities, as a mean over the classes that are present in the labels.
    For predictions of 0 and 1 it equals 1 - IoU. Costs a sort of the pixels for each class.
    """
    p, g = _regions(logits, labels)

    def of_class(p, g):
        errors = jnp.abs(g - p)
        order = jnp.argsort(-errors)
        g = g[order]
        # Jaccard loss if the pixels of the largest errors, up to each one, are the mistakes (Algorithm 1).
        jaccard = 1 - (g.sum() - jnp.cumsum(g)) / (g.sum() + jnp.cumsum(1 - g))
        return errors[order] @ jnp.diff(jaccard, prepend=0.0)

    losses = jax.vmap(jax.vmap(of_class, in_axes=1))(p, g)
    present = g.sum(1) > 0
    return jnp.where(present, losses, 0).sum(-1) / present.sum(-1) + 0 * g.sum((1, 2))


def _regions(logits, labels):
    """Return the probabilities and the true regions, f32 [batch, pixels, classes]; NaN for a label out of range."""
    check_labels(logits, labels)
    classes = logits.shape[-1]
    p = jax.nn.softmax(logits.astype(jnp.float32)).reshape(len(logits), -1, classes)
    labels = labels.reshape(len(logits), -1)
    inside = (labels >= 0) & (labels < classes)
    return p, jnp.where(inside[..., None], jax.nn.one_hot(labels, classes, dtype=jnp.float32), jnp.nan)
