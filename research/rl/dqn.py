"""Deep Q-learning (Mnih et al. 2015): action values, learned off-policy from transitions of any policy."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Int
from research.core import Loss, Model, Out, draw, weighted_mean
from research.errors import unknown
from research.fields import example_weights, field


def dqn(
    model: Model | Callable, *, discount: float, double: bool = True, delta: float = 1.0, target: str = "target"
) -> Loss:
    """Return the Loss of one-step Q-learning: Huber's loss of the temporal-difference error.

    The slope of Huber's loss is at most `delta`.

        y = r + discount * (1 - terminated) * Q'(s', a*),  loss = huber(Q(s, a) - y)

    Mnih et al. 2015, Algorithm 1 and the clipped error of its Methods. Q' uses the weights in the entry `target` of
    stats (see research.optim.target; with every=1 it is Q itself). a* is the best action by Q if `double` (van Hasselt
    et al. 2016, equation 4), otherwise by Q'. y has no gradient: the weights of Q' are no params, and an argmax has no
    gradient. `model` is a Model or its `apply`, and returns Q [batch, actions]. The batch holds `observation`, `action`
    (an index), `reward`, `next_observation`, `terminated` (a truncated step bootstraps), and optionally `mask`. The
    metrics are loss and value (the mean of Q(s, a)). With discount 0 the loss is a regression of rewards. Only the
    model changes stats.

    Trap: beyond `delta`, Huber's loss estimates a median, but a value is a mean. Rare large errors, such as a random
    end of the episode, then count too little, and values come out too high. Choose `delta` of the size of the returns,
    or scale the rewards.

    Raises UserError, while tracing, if stats has no entry `target` or the batch lacks a field.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        if target not in ctx.stats:
            raise unknown("stats entry for the target network", target, ctx.stats)
        batch = ctx.batch
        x, action, next_x = (field(batch, name) for name in ("observation", "action", "next_observation"))
        values, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        value = _chosen(values, action)
        target_values, _ = apply(ctx.stats[target], ctx.stats, next_x)
        selection_values = apply(params, ctx.stats, next_x)[0] if double else target_values
        not_terminated = 1 - field(batch, "terminated").astype(jnp.float32)
        y = field(batch, "reward") + discount * not_terminated * _chosen(target_values, selection_values.argmax(-1))
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(losses.huber(delta)(value, y), weights),
            "value": weighted_mean(value, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def _chosen(values: Float[Array, "batch actions"], action: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Return the value of each row's action, in f32."""
    return jnp.take_along_axis(values.astype(jnp.float32), action[:, None], -1)[:, 0]
