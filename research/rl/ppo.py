"""Proximal policy optimisation (Schulman et al. 2017): a Loss, and the minibatches of a rollout that it is taken on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.rl.acting import Experience
from research.rl.advantages import generalized_advantages


def ppo(model: Model | Callable, *, clip: float = 0.2, value_weight: float = 0.5, entropy_weight: float = 0.0) -> Loss:
    """The clipped surrogate with value loss and entropy bonus (Schulman et al. 2017, equations 7 and 9), negated.

        -min(r A, clip(r, 1 - clip, 1 + clip) A) + value_weight * (V(s) - R)^2 - entropy_weight * S[pi(s)]

    `model` is a Model or its `apply` with outputs (logits [batch, actions], values [batch]). The batch holds
    `observation`, `action` (a number), `log_prob` of that action under the policy that took it, `advantage` A, and
    `target` R: see `minibatches`. r is the ratio of the action's probability now to then; if it is 1, as in the first
    step after a rollout, the gradient is the policy gradient's (A2C). The advantages are used as they are: the loss
    adds over examples. Metrics are loss, policy_loss, value_loss, entropy (nats), kl (nats, of the old policy to the
    new, Schulman's k3 estimate) and clipped (the share of ratios outside the clip). Changes no stats but the model's.

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
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, -1)
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
    """The `batches` of `acting` for `ppo`: `epochs` passes over a rollout, each in `num_minibatches` minibatches.

    Every epoch shuffles anew. If `num_minibatches` does not divide the rollout's transitions, each epoch leaves some
    out. Advantages (see `generalized_advantages`) are normalised to mean 0 and variance 1 over the rollout; the
    value's `target` is the advantage before that, plus the value. Takes the notes of `sampling`. Keeps no stats.
    """
    apply = getattr(model, "apply", model)

    def batches(state, trajectory, *, key):
        shape = trajectory.reward.shape
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        (_, following), _ = apply(state.params, state.stats, flat(trajectory.next_observation))
        value = trajectory.notes["value"]
        advantage = generalized_advantages(
            trajectory.reward, value, following.reshape(shape),
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
