"""Pseudo-labels: train on the model's own confident predictions for unlabelled examples."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.objectives.unlabelled import mean_per_labelled, unlabelled_rows, value_at


def pseudo_label(
    model: Model | Callable, *, threshold: float = 0.95, weight: float | Callable = 1.0,
    augment: Callable | None = None, inputs: str = "image", labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Minimise cross-entropy(labels) + weight(step) * cross-entropy(the model's own confident hard predictions).

    From Lee 2013 ("Pseudo-Label", ICML workshop), eq. 15. The pseudo-label of an unlabelled example is its most likely
    class in the current step, without gradient; the mean is over all unlabelled examples. `weight` is a number or a
    schedule; eq. 16 is `optax.linear_schedule(0, a, T2 - T1, T1)`. A prediction below `threshold` contributes 0 (Oliver
    et al. 2018, arXiv:1804.09170); Lee uses all predictions, which is threshold 0.

    A batch is one of `data.sampling.paired`: inputs [batch, ...], labels as in `classify`, and some unlabelled examples
    for each labelled one, [batch, ratio, ...]. `augment(key, batch) -> batch` is drawn separately for the unlabelled
    examples. All pass through the model in one call, and BatchNorm sees them together. Metrics are loss, accuracy
    (labelled), unlabelled (its term without the weight) and taken (the fraction of predictions that count). Effect on
    `stats`: all the model's stats are passed on.

    Limit: for weight 0 or a threshold above 1 it equals `classify`. It adds over the labelled examples; one of mask 0
    has no weight, and neither have its unlabelled examples. The key is folded with "augment", "weak" and "model".
    Raises UserError for a field that is missing or does not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        rows = unlabelled_rows(ctx.batch, unlabelled, like=field(ctx.batch, inputs))
        batch, unlabelled_batch = ctx.batch, {inputs: rows}
        if augment:
            batch = augment(draw(ctx.key, "augment"), batch)
            unlabelled_batch = augment(draw(ctx.key, "weak"), unlabelled_batch)
        x, y = field(batch, inputs), field(batch, labels)
        model_inputs = jnp.concatenate([x, unlabelled_batch[inputs]])
        logits, stats = apply(params, ctx.stats, model_inputs, key=draw(ctx.key, "model"), train=True)
        term, taken = confident_cross_entropy(logits[len(x) :], logits[len(x) :], threshold=threshold)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        term, taken = mean_per_labelled(term, len(x)), mean_per_labelled(taken, len(x))
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(supervised + value_at(weight, ctx.step) * term, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "unlabelled": weighted_mean(term, weights),
            "taken": weighted_mean(taken, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def confident_cross_entropy(
    logits: Float[Array, "batch classes"], guesses: Float[Array, "batch classes"], *, threshold: float
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Compute the cross-entropy of logits with the most likely class of `guesses`, if that reaches `threshold`.

    `guesses` are logits too. Returns (cross-entropy, or 0 below the threshold; 1.0 if the prediction counts, otherwise
    0.0), both f32. No gradient flows into the guesses, because class numbers have none.
    """
    taken = jax.nn.softmax(guesses.astype(jnp.float32)).max(-1) >= threshold
    return jnp.where(taken, losses.cross_entropy(logits, guesses.argmax(-1)), 0.0), taken.astype(jnp.float32)
