"""Deep Q-learning (Mnih et al. 2015): values of actions, learnt from transitions that anyone may have made."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from research.axes import Array, Float, Int
from research.core import Loss, Model, Out, draw, weighted_mean
from research.errors import unknown
from research.fields import example_weights, field


def dqn(
    model: Model | Callable, *, discount: float, double: bool = True, delta: float = 1.0, target: str = "target"
) -> Loss:
    """The error of one step of Q-learning under Huber's loss, whose slope is held to `delta` (Mnih et al. 2015,
    Algorithm 1 and the clipped error of its Methods).

        y = r + discount * (1 - terminated) * Q'(s', a*),  loss = huber(Q(s, a) - y)

    Q' are the weights in the entry `target` of stats (see research.optim.target; with every=1 it is Q itself). a* is
    the best action by Q if `double` (van Hasselt et al. 2016, equation 4), else by Q'. y has no gradient: Q' are no
    params, and an argmax has none. `model` is a Model or its `apply`, with outputs Q [batch, actions]. The batch holds
    `observation`, `action` (a number), `reward`, `next_observation`, `terminated` (a truncated step bootstraps), and
    maybe `mask`. Metrics are loss and value (the mean of Q(s, a)). With discount 0 it is a regression of rewards.
    Changes no stats but the model's.

    Trap: beyond `delta` Huber's loss looks for a median, not for the mean that a value is. Rare but large errors, as
    an end that comes by chance, then count too little, and values come out too high: take a `delta` of the size of
    the returns, or scale the rewards.

    Raises UserError, while tracing, if stats has no such entry or the batch lacks a field.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        if target not in ctx.stats:
            raise unknown("stats entry for the target network", target, ctx.stats)
        batch = ctx.batch
        x, action, following = (field(batch, name) for name in ("observation", "action", "next_observation"))
        values, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        value = _chosen(values, action)
        later, _ = apply(ctx.stats[target], ctx.stats, following)
        judged = apply(params, ctx.stats, following)[0] if double else later
        going = 1 - field(batch, "terminated").astype(jnp.float32)
        y = field(batch, "reward") + discount * going * _chosen(later, judged.argmax(-1))
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(optax.huber_loss(value, y, delta=delta), weights),
            "value": weighted_mean(value, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def _chosen(values: Float[Array, "batch actions"], action: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """The value of each row's action, in f32."""
    return jnp.take_along_axis(values.astype(jnp.float32), action[:, None], -1)[:, 0]
