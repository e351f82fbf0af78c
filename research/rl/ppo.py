"""Proximal policy optimisation (Schulman et al. 2017): its Loss, and the minibatches of a rollout."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.rl.acting import Experience
from research.rl.advantages import generalized_advantages


def ppo(model: Model | Callable, *, clip: float = 0.2, value_weight: float = 0.5, entropy_weight: float = 0.0) -> Loss:
    """Return the Loss of PPO: the negated clipped surrogate, with a value loss and an entropy bonus.

        -min(r A, clip(r, 1 - clip, 1 + clip) A) + value_weight * (V(s) - R)^2 - entropy_weight * S[pi(s)]

    Schulman et al. 2017, equations 7 and 9. `model` is a Model or its `apply`, and returns (logits [batch, actions],
    values [batch]). The batch holds `observation`, `action` (an index), `log_prob` of that action under the policy that
    chose it, `advantage` A, and `target` R: see `minibatches`. r is the ratio of the action's current probability to
    that probability. If r is 1, as in the first step after a rollout, the gradient is the policy gradient (A2C). The
    loss does not normalise the advantages, thus it is additive over examples.

    The metrics are loss, policy_loss, value_loss, entropy (nats), kl (nats, of the old policy to the new, Schulman's k3
    estimate) and clipped (the fraction of ratios outside the clip range). Only the model changes stats.

    Raises UserError, while tracing, if the batch lacks a field.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        batch = ctx.batch
        x, action = field(batch, "observation"), field(batch, "action")
        (logits, values), stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        log_ratio = jnp.take_along_axis(log_probs, action[:, None], -1)[:, 0] - field(batch, "log_prob")
        ratio, advantage = jnp.exp(log_ratio), field(batch, "advantage")
        policy_loss = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
        value_loss = (values.astype(jnp.float32) - field(batch, "target")) ** 2
        entropy = losses.entropy(logits)
        terms = {
            "loss": policy_loss + value_weight * value_loss - entropy_weight * entropy,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": ratio - 1 - log_ratio,
            "clipped": (jnp.abs(ratio - 1) > clip).astype(jnp.float32),
        }
        weights = example_weights(batch, len(x))
        metrics = {name: weighted_mean(term, weights) for name, term in terms.items()}
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def minibatches(
    model: Model | Callable, *, discount: float, gae_lambda: float, epochs: int, num_minibatches: int
) -> Callable[..., Experience]:
    """Return the `batches` of `acting` for `ppo`: several passes over a rollout in minibatches.

    There are `epochs` passes, each with its own shuffle and `num_minibatches` minibatches. If `num_minibatches` does
    not divide the number of transitions, each pass omits some. Advantages (see `generalized_advantages`) are normalised
    to mean 0 and variance 1 over the rollout. The `target` of the value is the advantage before normalisation plus the
    value. The policy must be `sampling`, because its notes are used. Stores nothing in stats.
    """
    apply = getattr(model, "apply", model)

    def batches(state, trajectory, *, key):
        shape = trajectory.reward.shape
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        (_, next_values), _ = apply(state.params, state.stats, flat(trajectory.next_observation))
        value = trajectory.notes["value"]
        advantage = generalized_advantages(
            trajectory.reward, value, next_values.reshape(shape),
            terminated=trajectory.terminated, truncated=trajectory.truncated, discount=discount, gae_lambda=gae_lambda,
        )  # fmt: skip
        rows = {
            "observation": trajectory.observation,
            "action": trajectory.action,
            "log_prob": trajectory.notes["log_prob"],
            "advantage": (advantage - advantage.mean()) / (advantage.std() + 1e-8),
            "target": advantage + value,
        }
        count = advantage.size
        size = count // num_minibatches
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(draw(key, "order", jnp.arange(epochs)))
        chosen = orders[:, : num_minibatches * size].reshape(epochs * num_minibatches, size)
        return Experience({}, {name: flat(x)[chosen] for name, x in rows.items()})

    return batches
