"""Stochastic weight averaging: the equal mean of the weights at regular steps, evaluated instead of the last ones."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.core import Source, View, draw
from research.errors import UserError
from research.technique import Technique


def stochastic_average(*, start: int, every: int, name: str = "average") -> Technique:
    """The mean of the weights after update `start`, `start + every`, `start + 2 every`, ... (Izmailov et al. 2018,
    Algorithm 1; `every` is the cycle length c, and the learning rate is the experiment's to hold high or to cycle).

    Keeps the entry `name` of stats: the mean in f32, and how many weights are in it. Until `start` the view is the
    live weights. Training itself is unchanged. A step that `on_nonfinite="skip"` takes back is in no mean. Batch
    statistics are the live ones, which do not fit the mean: wrap the view in `with_batch_statistics`.

    Raises UserError for a negative start and for every < 1.
    """
    if start < 0 or every < 1:
        raise UserError(f"averaging from start={start} every={every} updates; expected start >= 0 and every >= 1.")

    def memory(key, params):
        mean = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        return {"mean": mean, "count": jnp.int32(0)}

    def after(state, params):
        made = state.step + 1  # updates, with this one
        taken = (made >= start) & ((made - start) % every == 0)
        old = state.stats[name]
        count = old["count"] + taken
        # The first one replaces the initial weights, which are not part of the mean.
        share = jnp.where(taken, 1 / jnp.maximum(count, 1), 0.0)
        mean = jax.tree.map(lambda m, p: m + share * (p.astype(jnp.float32) - m), old["mean"], params)
        return {name: {"mean": mean, "count": count}}

    def view(state):
        mean, count = state.stats[name]["mean"], state.stats[name]["count"]
        return jax.tree.map(lambda m, p: jnp.where(count > 0, m, p).astype(p.dtype), mean, state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)


def with_batch_statistics(
    view: View, apply: Callable, *, source: Source, steps: int = 100, inputs: str = "image"
) -> View:
    """The View whose batch statistics are made anew for its weights (Izmailov et al. 2018, Algorithm 1, last line).

    `apply` runs in training mode over batches 0 to `steps` - 1 of `source` (a Source: `batches(...)(seed)`), and its
    statistics move as in training: with BatchNorm's momentum m the old ones keep a share of m ** steps, 0.003 % for
    0.9 and 100. Nothing is written back. Costs `steps` forward passes whenever the view is taken. For a model without
    statistics it is `view`.
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
                break  # a trace asks for shapes alone
        return params, stats

    return refreshed
