"""Stochastic weight averaging: evaluate the equal mean of weights sampled at regular steps."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.core import Source, View, draw
from research.errors import UserError
from research.technique import Technique


def stochastic_average(*, start: int, every: int, name: str = "average") -> Technique:
    """Average the weights after update `start`, `start + every`, `start + 2 every`, ... (stochastic weight averaging).

    From Izmailov et al. 2018, Algorithm 1; `every` is the cycle length c. The experiment chooses a constant or cyclic
    learning rate. Training itself is unchanged: only `view` is affected, and until `start` it shows the live weights.
    An update that `on_nonfinite="skip"` reverts never enters the mean.

    Effect on `stats`: the entry `name` holds the mean in f32 and the number of averaged weights. `view` shows the live
    batch statistics, which do not fit the averaged weights: wrap the view in `with_batch_statistics`.

    Raises UserError for a negative start and for every < 1.
    """
    if start < 0 or every < 1:
        raise UserError(f"stochastic_average(start={start}, every={every}); expected start >= 0 and every >= 1.")

    def memory(key, params):
        mean = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        return {"mean": mean, "count": jnp.int32(0)}

    def after(state, params):
        num_updates = state.step + 1  # includes the current update
        is_sampled = (num_updates >= start) & ((num_updates - start) % every == 0)
        old = state.stats[name]
        count = old["count"] + is_sampled
        # The first sample replaces the initial weights, which are not part of the mean.
        fraction = jnp.where(is_sampled, 1 / jnp.maximum(count, 1), 0.0)
        mean = jax.tree.map(lambda m, p: m + fraction * (p.astype(jnp.float32) - m), old["mean"], params)
        return {name: {"mean": mean, "count": count}}

    def view(state):
        mean, count = state.stats[name]["mean"], state.stats[name]["count"]
        return jax.tree.map(lambda m, p: jnp.where(count > 0, m, p).astype(p.dtype), mean, state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)


def with_batch_statistics(
    view: View, apply: Callable, *, source: Source, steps: int = 100, inputs: str = "image"
) -> View:
    """Wrap a View so that batch statistics are recomputed for its weights.

    From Izmailov et al. 2018, Algorithm 1, last line. `apply` runs in training mode over batches 0 to `steps` - 1 of
    `source` (a Source: `batches(...)(seed)`), and its statistics move as in training: with BatchNorm momentum m the old
    ones retain a fraction of m ** steps, 0.003 % for m = 0.9 and 100 steps. Nothing is written back to the State. Each
    use of the view costs `steps` forward passes. For a model without statistics the result equals `view`.
    """

    @jax.jit
    def forward(params, stats, batch, key):
        return apply(params, stats, batch[inputs], key=key, train=True)[1]

    def refreshed(state):
        params, stats = view(state)
        for step in range(steps):
            changed = forward(params, stats, source(step), draw(state.seed, "batch statistics", step))
            if not changed:
                break
            stats = {**stats, **changed}
            if isinstance(state.step, jax.core.Tracer):
                break  # tracing needs only shapes
        return params, stats

    return refreshed
