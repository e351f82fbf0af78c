"""Pseudo-labels: what the model is sure of, it takes for true."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.objectives.unlabelled import amount, per_labelled, unlabelled_rows


def pseudo_label(
    model: Model | Callable, *, threshold: float = 0.95, weight: float | Callable = 1.0,
    augment: Callable | None = None, inputs: str = "image", labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Cross-entropy(labels) + weight(step) * cross-entropy(the model's own hard guess, where it is sure of it).

    Lee 2013 ("Pseudo-Label", ICML workshop), eq. 15: the guess for an unlabelled example is its most likely class at
    this very step, a constant to the gradient, and the mean goes over all unlabelled examples. `weight` is a number
    or a schedule; eq. 16 is `optax.linear_schedule(0, a, T2 - T1, T1)`. A guess below `threshold` counts 0 (Oliver et
    al. 2018, arXiv:1804.09170); Lee takes them all, which is threshold 0.

    A batch is that of `data.sampling.paired`: inputs [batch, ...], labels as in `classify`, and some unlabelled
    examples for each labelled one, [batch, ratio, ...]. `augment(key, batch) -> batch` is drawn anew for the unlabelled
    ones. All go through the model in one call, and BatchNorm sees them together. Metrics are loss, accuracy
    (labelled), unlabelled (its term without the weight) and taken (the share of guesses that count). Equals `classify`
    for weight 0 or a threshold above 1. Adds over the labelled examples; one of mask 0 has no weight, nor have its
    unlabelled ones. Raises UserError for a field that is missing or does not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        rows = unlabelled_rows(ctx.batch, unlabelled, like=field(ctx.batch, inputs))
        batch, others = ctx.batch, {inputs: rows}
        if augment:
            batch = augment(draw(ctx.key, "augment"), batch)
            others = augment(draw(ctx.key, "weak"), others)
        x, y = field(batch, inputs), field(batch, labels)
        both = jnp.concatenate([x, others[inputs]])
        logits, stats = apply(params, ctx.stats, both, key=draw(ctx.key, "model"), train=True)
        term, taken = sure(logits[len(x) :], logits[len(x) :], threshold=threshold)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        term, taken = per_labelled(term, len(x)), per_labelled(taken, len(x))
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(supervised + amount(weight, ctx.step) * term, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "unlabelled": weighted_mean(term, weights),
            "taken": weighted_mean(taken, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def sure(
    logits: Float[Array, "batch classes"], guesses: Float[Array, "batch classes"], *, threshold: float
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Cross-entropy of the logits with the likeliest class of `guesses`, also logits, 0 if that class is less likely
    than `threshold`; and 1.0 if it counts. Both are f32; no gradient can go to the guesses, since class numbers have
    none.
    """
    taken = jax.nn.softmax(guesses.astype(jnp.float32)).max(-1) >= threshold
    return jnp.where(taken, losses.cross_entropy(logits, guesses.argmax(-1)), 0.0), taken.astype(jnp.float32)
