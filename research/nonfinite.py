"""What a run does about a loss or a gradient that is not finite: stop, skip the step, or roll back."""

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Mean
from research.distributed.sharding import on_device

POLICIES = ("stop", "skip", "rollback")
ADVICE = (
    "Try: a lower learning rate or a longer warm-up; clipping (optax.clip_by_global_norm); a look at the batch's "
    'ranges above (a label outside the classes makes the loss nan); on_nonfinite="skip" or "rollback".'
)


def sound(state) -> jax.Array:
    """Whether a State may be kept: all params finite, and nothing else not-a-number. A bool scalar.

    Infinity is a legitimate memory (the best loss so far of a plateau rule), so only params must be finite.
    """
    state = on_device(state)
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


def salted(seed: int, salt: int) -> int:
    """The seed of the data order: another one after a rollback, so that the same trouble is not met again."""
    return seed if salt == 0 else int(np.random.SeedSequence([seed, salt]).generate_state(1)[0])


def ranges(batch) -> str:
    """What a host batch holds, in words: the range of each field, and how many numbers in it are not finite."""
    parts = []
    for name, x in sorted(batch.items()):
        x = np.asarray(x)
        bad = int(np.sum(~np.isfinite(x))) if np.issubdtype(x.dtype, np.inexact) else 0
        finite = x[np.isfinite(x)] if bad else x
        span = f"{finite.min():g} to {finite.max():g}" if finite.size else "empty"
        parts.append(f"{name} {x.dtype}{list(x.shape)} {span}" + (f", {bad} not finite" if bad else ""))
    return "; ".join(parts)
