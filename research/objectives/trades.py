"""TRADES: trade accuracy on clean inputs against consistent predictions in their neighbourhood."""

from __future__ import annotations

from collections.abc import Callable

import jax

from research import losses
from research.axes import Scalar
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.robust.attack import ascend
from research.robust.norms import Norm, linf


def trades(
    model: Model | Callable,
    *,
    beta: float,
    epsilon: float | Scalar,
    steps: int,
    bounds: tuple[float, float] | None,
    step_size: float | Scalar | None = None,
    norm: Norm = linf,
    smoothing: float = 0.0,
    inputs: str = "image",
    labels: str = "label",
    augment: Callable | None = None,
) -> Loss:
    """Minimise cross-entropy at x plus `beta` * KL(f(x) || f(x')), for the x' within `epsilon` that maximises it.

    From Zhang et al. 2019, equation 5 and algorithm 1; beta is their 1 / lambda. `model` is a Model or its `apply` and
    returns logits [batch, classes]; `labels`, `smoothing` and `augment` are as in `classify`. `ascend` finds x',
    starting at a point drawn uniformly from the ball (at x itself the divergence has no gradient), in training mode,
    with the dropout of the clean pass. Both passes are differentiated. `epsilon`, `step_size` and `bounds` are in the
    units of the inputs, after `augment`.

    Limit: with beta 0, or with epsilon 0 and inputs within bounds, it equals `classify`. Effect on `stats`: those of
    the clean pass. Metrics are loss, accuracy, adversarial_accuracy and divergence (nats). The key is folded with
    "augment", "model" and "attack". Raises UserError as `classify` and `ascend` do.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x, y = field(batch, inputs), field(batch, labels)
        key = draw(ctx.key, "model")
        clean, stats = apply(params, ctx.stats, x, key=key, train=True)
        frozen, clean_constant = jax.lax.stop_gradient((params, clean))

        def divergence(z):
            return losses.kl_divergence(clean_constant, apply(frozen, ctx.stats, z, key=key, train=True)[0])

        adversarial_inputs = ascend(
            divergence, x, epsilon=epsilon, steps=steps, bounds=bounds, step_size=step_size, norm=norm,
            key=draw(ctx.key, "attack"),
        )  # fmt: skip
        attacked, _ = apply(params, ctx.stats, adversarial_inputs, key=key, train=True)
        weights = example_weights(batch, len(x))
        apart = losses.kl_divergence(clean, attacked)
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(clean, y, smoothing=smoothing) + beta * apart, weights),
            "accuracy": weighted_mean(losses.hits(clean, y), weights),
            "adversarial_accuracy": weighted_mean(losses.hits(attacked, y), weights),
            "divergence": weighted_mean(apart, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
