"""Survival: predict the time to an event by proportional hazards, from partly censored examples."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, not_additive, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


def survival(
    model: Model | Callable, *, ties: str = "efron", inputs: str = "features", times: str = "time",
    events: str = "event",
) -> Loss:  # fmt: skip
    """Make the loss of Cox's partial likelihood (Cox 1972; with a network, Katzman et al. 2018, equation 4).

    `model` is a Model or its `apply`, and returns log hazards [batch] or [batch, 1]. The batch has the time of the
    event or of the last sight, and whether the event occurred (1 or 0). The loss is the mean of `losses.cox` over the
    events of the batch, whose examples are the ones at risk: use large batches. Metrics are loss and events, the
    fraction of examples with an event. Examples of mask 0 are not at risk. The loss is NotAdditive. Effect on `stats`:
    all the model's stats are passed on. The key is folded with "model".

    With a linear model and the complete data as one batch, it is Cox regression. Raises UserError, while tracing, if
    the batch lacks a field, and for log hazards of another shape.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        x, t, e = (field(ctx.batch, name) for name in (inputs, times, events))
        h, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        h = log_hazards(h, len(x))
        weights = example_weights(ctx.batch, len(x))
        happened = weights * (e > 0)
        metrics = {
            "loss": not_additive(weighted_mean(losses.cox(h, t, e, ties=ties, weights=weights), happened)),
            "events": weighted_mean((e > 0).astype(weights.dtype), weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def log_hazards(outputs, size: int):
    """Return outputs [batch] or [batch, 1] as [batch]. Raises UserError for another shape."""
    if outputs.shape not in ((size,), (size, 1)):
        raise UserError(f"the model returns {list(outputs.shape)}; expected log hazards [{size}] or [{size}, 1].")
    return outputs.reshape(size)
