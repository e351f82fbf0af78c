"""FixMatch: what the model is sure of for a weakly augmented image must hold for a strongly augmented one."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, View, draw, live, weighted_mean
from research.fields import example_weights, field
from research.objectives.pseudo_label import sure
from research.objectives.teacher import targets
from research.objectives.unlabelled import amount, per_labelled, unlabelled_rows
from research.technique import Technique


def fixmatch(
    model: Model | Callable, *, weak: Callable, strong: Callable, threshold: float = 0.95,
    weight: float | Callable = 1.0, view: View = live, align: Technique | None = None, inputs: str = "image",
    labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Cross-entropy(labels) + weight(step) * cross-entropy(guess for a weak view, logits for a strong view).

    Sohn et al. 2020 (arXiv:2001.07685), eq. 3 and 4: the guess is the likeliest class of the weak view if its
    probability is at least `threshold`, else the example counts 0; the mean goes over all unlabelled examples. `weak`
    and `strong` are augmentations `(key, batch) -> batch`; labelled images get the weak one. `view` says whose guesses
    they are: the live weights in the paper, or a moving average's.

    The batch is that of `pseudo_label`; `weight` is a number or a schedule. The model sees labelled and strong views
    in one call, and the weak views in another, both as in training (as in the authors' code; there BatchNorm sees all
    three together); stats are those of the first call. Metrics are those of `pseudo_label`. Equals `classify` for
    weight 0 or a threshold above 1, and `pseudo_label` if neither view is augmented. Adds over the labelled examples;
    one of mask 0 has no weight, nor have its unlabelled ones. Raises UserError for a field that is missing or does not
    fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        rows = unlabelled_rows(ctx.batch, unlabelled, like=field(ctx.batch, inputs))
        batch = weak(draw(ctx.key, "augment"), ctx.batch)
        x, y = field(batch, inputs), field(batch, labels)
        easy = weak(draw(ctx.key, "weak"), {inputs: rows})[inputs]
        hard = strong(draw(ctx.key, "strong"), {inputs: rows})[inputs]
        both = jnp.concatenate([x, hard])
        weights = example_weights(batch, len(x))
        logits, stats = apply(params, ctx.stats, both, key=draw(ctx.key, "model"), train=True)
        guesses = targets(apply, view, params, ctx, easy, key=draw(ctx.key, "guess"), train=True)
        if align:
            each = jnp.repeat(weights, len(guesses) // len(x))
            guesses, changed = align.use(ctx.stats, guesses, weights=each)
            stats = {**stats, **changed}
        term, taken = sure(logits[len(x) :], guesses, threshold=threshold)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        term, taken = per_labelled(term, len(x)), per_labelled(taken, len(x))
        metrics = {
            "loss": weighted_mean(supervised + amount(weight, ctx.step) * term, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "unlabelled": weighted_mean(term, weights),
            "taken": weighted_mean(taken, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
