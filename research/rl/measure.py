"""The evaluation of a policy on full episodes from fixed seeds: equal params yield equal numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Ctx, Measure, draw, repeat, weighted_mean
from research.data import EvalBatches, arrays, eval_batches
from research.fields import field
from research.rl.environment import Environment
from research.rl.policies import greedy


def trials(count: int, *, first: int = 0, size: int | None = None) -> EvalBatches:
    """Return the source of an Eval of `count` episodes, whose seeds start at `first`.

    Batches are {"seed": u32, "mask": f32} of `size`; the default is a single batch.
    """
    return eval_batches(arrays(seed=np.arange(first, first + count, dtype=np.uint32)), size or count)


def measure_return(
    environment: Environment, *, steps: int, policy: Callable = greedy, discount: float = 1.0
) -> Measure:
    """Return the measure of an Eval over `trials`: each seed is one episode, played to its end or for `steps` steps.

    `policy(apply)` chooses the actions (see research.rl.policies). The metrics are `return` (the sum of discount^t r_t)
    and `length` (steps), averaged over the episodes. Random numbers depend only on the seeds, not on the run.
    """

    def measure(trained, batch):
        keys = draw(0, "evaluation", field(batch, "seed"))
        choose = policy(trained.apply)

        def one_step(carry, t):
            states, running, total, length = carry
            observation = jax.vmap(environment.observe)(states)
            ctx = Ctx({"observation": observation}, trained.stats, draw(0, "evaluation", "policy", t), jnp.int32(0))
            action, _ = choose(trained.params, ctx)
            transition = jax.vmap(environment.step)(states, action, jax.vmap(lambda key: draw(key, "step", t))(keys))
            total = total + jnp.where(running, discount**t * transition.reward, 0)
            done = transition.terminated | transition.truncated
            return (transition.state, running & ~done, total, length + running), None

        count = len(keys)
        states = jax.vmap(lambda key: environment.reset(draw(key, "reset")))(keys)
        initial = states, jnp.ones(count, bool), jnp.zeros(count), jnp.zeros(count)
        (_, _, total, length), _ = repeat(one_step, initial, jnp.arange(steps))
        return {"return": weighted_mean(total, batch["mask"]), "length": weighted_mean(length, batch["mask"])}

    return measure
