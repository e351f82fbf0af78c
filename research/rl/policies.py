"""How actions are chosen. A Policy is `(params, ctx) -> (actions, notes)`, pure like a Loss.

`ctx.batch["observation"]` is [environments, ...], `ctx.key` the only source of randomness, `ctx.step` the optimizer
step. `notes` by name are kept beside the actions, for a loss that needs them later. Each function here takes a Model
or its `apply`, whose outputs are one number for every action, [environments, actions] (logits, or values), or a tuple
that begins with that.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Shaped
from research.core import Ctx, Model, Tree, draw

Policy = Callable[[Tree, Ctx], tuple[Int[Array, " environments"], dict[str, Shaped[Array, "environments ..."]]]]


def greedy(model: Model | Callable) -> Policy:
    """The policy that takes the action of the largest output; the first where several are largest."""
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        return _scores(apply(params, ctx.stats, ctx.batch["observation"])[0]).argmax(-1).astype(jnp.int32), {}

    return policy


def sampling(model: Model | Callable) -> Policy:
    """The policy of an actor-critic, whose outputs are (logits, values [environments]): actions drawn from the softmax.

    Notes `log_prob`, the log-probability of the action in nats, and `value`, both f32.
    """
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        (logits, values), _ = apply(params, ctx.stats, ctx.batch["observation"])
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        actions = jax.random.categorical(draw(ctx.key, "action"), log_probs).astype(jnp.int32)
        log_prob = jnp.take_along_axis(log_probs, actions[:, None], -1)[:, 0]
        return actions, {"log_prob": log_prob, "value": values.astype(jnp.float32)}

    return policy


def epsilon_greedy(model: Model | Callable, *, epsilon: Callable) -> Policy:
    """The greedy policy, but with probability `epsilon(step)` an action drawn evenly from all (Mnih et al. 2015,
    Algorithm 1). With epsilon 0 it is greedy.
    """
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        scores = _scores(apply(params, ctx.stats, ctx.batch["observation"])[0])
        count, actions = scores.shape
        explore = jax.random.uniform(draw(ctx.key, "explore"), (count,)) < epsilon(ctx.step)
        anything = jax.random.randint(draw(ctx.key, "action"), (count,), 0, actions)
        return jnp.where(explore, anything, scores.argmax(-1)).astype(jnp.int32), {}

    return policy


def _scores(outputs: Tree) -> Float[Array, "environments actions"]:
    return outputs[0] if isinstance(outputs, tuple) else outputs
