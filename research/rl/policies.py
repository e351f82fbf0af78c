"""How actions are chosen. A policy is `(params, ctx) -> (actions i32 [N], notes)`, pure like a Loss.

`ctx.batch["observation"]` is [N, ...], `ctx.key` the only source of randomness, `ctx.step` the optimizer step.
`notes` {name: [N, ...]} are kept beside the actions, for a loss that needs them later. Each function here takes a
Model or its `apply`, whose outputs are one number for every action, [N, A] (logits, or values), or a tuple that
begins with that.
"""

import jax
import jax.numpy as jnp

from research.core import draw


def greedy(model):
    """The policy that takes the action of the largest output; the first where several are largest."""
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        return _scores(apply(params, ctx.stats, ctx.batch["observation"])[0]).argmax(-1).astype(jnp.int32), {}

    return policy


def sampling(model):
    """The policy of an actor-critic, whose outputs are (logits [N, A], values [N]): actions drawn from the softmax.

    Notes `log_prob`, the log-probability of the action in nats, and `value`, both f32 [N].
    """
    apply = getattr(model, "apply", model)

    def policy(params, ctx):
        (logits, values), _ = apply(params, ctx.stats, ctx.batch["observation"])
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        actions = jax.random.categorical(draw(ctx.key, "action"), log_probs).astype(jnp.int32)
        log_prob = jnp.take_along_axis(log_probs, actions[:, None], -1)[:, 0]
        return actions, {"log_prob": log_prob, "value": values.astype(jnp.float32)}

    return policy


def epsilon_greedy(model, *, epsilon):
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


def _scores(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs
