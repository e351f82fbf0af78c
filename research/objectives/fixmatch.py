"""FixMatch: confident predictions for weakly augmented images label strongly augmented ones."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, View, draw, live, weighted_mean
from research.fields import example_weights, field
from research.objectives.pseudo_label import confident_cross_entropy
from research.objectives.teacher import teacher_outputs
from research.objectives.unlabelled import mean_per_labelled, unlabelled_rows, value_at
from research.technique import Technique


def fixmatch(
    model: Model | Callable, *, weak: Callable, strong: Callable, threshold: float = 0.95,
    weight: float | Callable = 1.0, view: View = live, align: Technique | None = None, inputs: str = "image",
    labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Minimise cross-entropy(labels) + weight(step) * cross-entropy(strong view, pseudo-label from a weak view).

    From Sohn et al. 2020 (arXiv:2001.07685), eq. 3 and 4. The pseudo-label is the most likely class of the weak view.
    If its probability is below `threshold` the example contributes 0; the mean is over all unlabelled examples. `weak`
    and `strong` are augmentations `(key, batch) -> batch`; labelled images get the weak one. `view` selects the weights
    that predict pseudo-labels: the live ones in the paper, or a moving average. `align` is an `alignment` Technique, or
    None.

    The batch is that of `pseudo_label`; `weight` is a number or a schedule. The model processes labelled and strong
    views in one call and weak views in another, both in training mode. (In the authors' code, BatchNorm sees all three
    together.) Metrics are those of `pseudo_label`. Effect on `stats`: those of the first call, and the entry of
    `align`.

    Limit: for weight 0 or a threshold above 1 it equals `classify` with the weak augmentation; if neither view is
    augmented it equals `pseudo_label`. It adds over the labelled examples; one of mask 0 has no weight, and neither
    have its unlabelled examples. The key is folded with "augment", "weak", "strong", "model" and "guess". Raises
    UserError for a field that is missing or does not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        rows = unlabelled_rows(ctx.batch, unlabelled, like=field(ctx.batch, inputs))
        batch = weak(draw(ctx.key, "augment"), ctx.batch)
        x, y = field(batch, inputs), field(batch, labels)
        weak_view = weak(draw(ctx.key, "weak"), {inputs: rows})[inputs]
        strong_view = strong(draw(ctx.key, "strong"), {inputs: rows})[inputs]
        model_inputs = jnp.concatenate([x, strong_view])
        weights = example_weights(batch, len(x))
        logits, stats = apply(params, ctx.stats, model_inputs, key=draw(ctx.key, "model"), train=True)
        teacher_logits = teacher_outputs(apply, view, params, ctx, weak_view, key=draw(ctx.key, "guess"), train=True)
        if align:
            unlabelled_weights = jnp.repeat(weights, len(teacher_logits) // len(x))
            teacher_logits, align_stats = align.use(ctx.stats, teacher_logits, weights=unlabelled_weights)
            stats = {**stats, **align_stats}
        term, taken = confident_cross_entropy(logits[len(x) :], teacher_logits, threshold=threshold)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        term, taken = mean_per_labelled(term, len(x)), mean_per_labelled(taken, len(x))
        metrics = {
            "loss": weighted_mean(supervised + value_at(weight, ctx.step) * term, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "unlabelled": weighted_mean(term, weights),
            "taken": weighted_mean(taken, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
