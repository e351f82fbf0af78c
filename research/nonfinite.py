"""What a run does about a loss or a gradient that is not finite: stop, skip the step, or roll back."""

import jax
import jax.numpy as jnp

from research.core import Mean

POLICIES = ("stop", "skip", "rollback")


def sound(state) -> jax.Array:
    """Whether a State may be kept: all params finite, and nothing else not-a-number. A bool scalar.

    Infinity is a legitimate memory (the best loss so far of a plateau rule), so only params must be finite.
    """
    checks = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state.params)]
    others = jax.tree.leaves((state.stats, state.opt))
    checks += [~jnp.any(jnp.isnan(x)) for x in others if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(checks)) if checks else jnp.bool_(True)


def skip(step):
    """A Step that keeps params, stats and opt as they were where the loss or the new ones are not finite.

    The step still counts, so the next one sees the next batch; metrics leave the step out, and the metric
    `skipped` is the share of steps that were. Where all is finite it equals `step`.
    """

    def guarded(state, batch):
        new, metrics = step(state, batch)
        good = sound(new) & jnp.isfinite(metrics["loss"].sum)
        metrics = jax.tree.map(lambda x: jnp.where(good, x, 0), metrics)
        metrics["skipped"] = Mean(1.0 - good.astype(jnp.float32), jnp.float32(1))
        kept = state._replace(step=new.step)
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, kept), metrics

    return guarded
