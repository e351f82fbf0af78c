"""Policies choose actions. A Policy is `(params, ctx) -> (actions, notes)`, pure like a Loss.

`ctx.batch["observation"]` is [environments, ...], `ctx.key` is the only source of randomness, and `ctx.step` is the
optimizer step. `notes` {name: array} are stored with the actions, for a loss that needs them later. Each function in
this file accepts a Model or its `apply`. The outputs are one number per action, [environments, actions] (logits or
values), or a tuple whose first element is that array.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Shaped
from research.core import Ctx, Model, Tree, draw

Policy = Callable[[Tree, Ctx], tuple[Int[Array, " environments"], dict[str, Shaped[Array, "environments ..."]]]]


def greedy(model: Model | Callable) -> Policy:
    """Return the policy that takes the action with the largest output; ties go to the first action."""
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        return _scores(apply(params, ctx.stats, ctx.batch["observation"])[0]).argmax(-1).astype(jnp.int32), {}

    return policy


def sampling(model: Model | Callable) -> Policy:
    """Return the policy of an actor-critic, which samples actions from the softmax of its logits.

    The model's outputs are (logits, values [environments]). The notes are `log_prob`, the log-probability of the action
    in nats, and `value`; both are f32.
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
    """Return the greedy policy that explores: with probability `epsilon(step)` the action is uniformly random.

    Mnih et al. 2015, Algorithm 1. With epsilon 0 the policy is greedy.
    """
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        scores = _scores(apply(params, ctx.stats, ctx.batch["observation"])[0])
        count, actions = scores.shape
        explore = jax.random.uniform(draw(ctx.key, "explore"), (count,)) < epsilon(ctx.step)
        random_actions = jax.random.randint(draw(ctx.key, "action"), (count,), 0, actions)
        return jnp.where(explore, random_actions, scores.argmax(-1)).astype(jnp.int32), {}

    return policy


def _scores(outputs: Tree) -> Float[Array, "environments actions"]:
    return outputs[0] if isinstance(outputs, tuple) else outputs
