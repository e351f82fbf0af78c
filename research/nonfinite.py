"""The response to a loss or a weight that is not finite: stop the run, skip the step, or roll back."""

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Mean
from research.distributed.sharding import on_device

POLICIES = ("stop", "skip", "rollback")
ADVICE = (
    "To find the cause: python -m research doctor FILE. Try: a lower learning rate or longer warm-up; gradient "
    "clipping (optax.clip_by_global_norm); checking the ranges of the batch above (a label out of range makes the loss "
    'NaN); on_nonfinite="skip" or "rollback".'
)


def all_finite(state) -> jax.Array:
    """Return a bool scalar: whether all params are finite and `stats` and `opt` contain no NaN.

    Only params must be finite. In `stats` and `opt`, infinity can be a valid value, such as the initial best loss of a
    plateau rule.
    """
    state = on_device(state)
    checks = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state.params)]
    other_arrays = jax.tree.leaves((state.stats, state.opt))
    checks += [~jnp.any(jnp.isnan(x)) for x in other_arrays if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(checks)) if checks else jnp.bool_(True)


def skip_nonfinite(step):
    """Return a Step that leaves params, stats and opt unchanged if the loss or the new state is not finite.

    A skipped step still increments the step number, and the next step thus reads the next batch. Metrics exclude
    skipped steps. The metric `skipped` is the fraction of skipped steps. If every value is finite, the result equals
    `step`.
    """

    def guarded(state, batch):
        new, metrics = step(state, batch)
        finite = all_finite(new) & jnp.isfinite(metrics["loss"].sum)
        metrics = jax.tree.map(lambda x: jnp.where(finite, x, 0), metrics)
        metrics["skipped"] = Mean(1.0 - finite.astype(jnp.float32), jnp.float32(1))
        unchanged = state._replace(step=new.step)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, unchanged), metrics

    return guarded


def data_seed(seed: int, salt: int) -> int:
    """Return the seed of the data order: a different one after a rollback, to avoid the same failure."""
    return seed if salt == 0 else int(np.random.SeedSequence([seed, salt]).generate_state(1)[0])


def ranges(batch) -> str:
    """Describe a host batch for a message: the dtype, shape, range and number of non-finite values of each field."""
    parts = []
    for name, x in sorted(batch.items()):
        x = np.asarray(x)
        bad = int(np.sum(~np.isfinite(x))) if np.issubdtype(x.dtype, np.inexact) else 0
        finite = x[np.isfinite(x)] if bad else x
        span = f"{finite.min():g} to {finite.max():g}" if finite.size else "empty"
        parts.append(f"{name} {x.dtype}{list(x.shape)} {span}" + (f", {bad} not finite" if bad else ""))
    return "; ".join(parts)
