"""Decisions that depend on evaluations: early stopping and learning-rate reduction, with their memory in the State.

An Observe receives the metrics of the evaluations of a step, `{"valid/loss": value}`. If its metric was not evaluated
at that step, the State does not change. Evaluations at the end of a run are not observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.axes import Array, Float, Int
from research.core import Stop, Tree
from research.distributed.sharding import put
from research.errors import UserError, unknown
from research.technique import Technique


class PlateauState(NamedTuple):
    """Optimizer state of a plateau rule: the factor on updates, and the rule's counters."""

    scale: Float[Array, ""]
    best: Float[Array, ""]
    waited: Int[Array, ""]
    cooling: Int[Array, ""]


def early_stop(
    metric: str, *, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0,
    name: str = "early_stop",
) -> Technique:  # fmt: skip
    """End the run when `metric` (`valid/loss`) has not improved for `patience` evaluations in a row.

    From Goodfellow et al. 2016, Algorithm 7.1. A value improves if it beats the best so far by more than `min_delta`;
    NaN is no improvement. With `best=Best(metric, mode)` the experiment stores the weights of the best evaluation.

    Effect on `stats`: the entry `name` holds {best, waited}. Training until the stop is unchanged. Raises UserError for
    a patience below 1 or an unknown mode and, at the first evaluation, for a metric that the evaluation lacks.
    """
    initial_best = _initial_best(mode)
    _check_patience(patience)

    def memory(key, params):
        return {"best": jnp.float32(initial_best), "waited": jnp.int32(0)}

    def observe(state, results):
        value = _metric_value(results, metric)
        if value is None:
            return state
        old = state.stats[name]
        best = np.asarray(old["best"])
        better = value < best - min_delta if mode == "min" else value > best + min_delta
        waited = 0 if better else int(old["waited"]) + 1
        new = _to_arrays_like({"best": value if better else best, "waited": waited}, old)
        state = state._replace(stats={**state.stats, name: new})
        if waited < patience:
            return state
        return Stop(state, f"{metric} did not improve on {best:.6g} for {patience} evaluations.")

    return Technique(name, memory=memory, observe=observe, metric=metric)


def reduce_on_plateau(
    metric: str, *, factor: float = 0.1, patience: int = 10, mode: Literal["min", "max"] = "min", rtol: float = 1e-4,
    atol: float = 0.0, cooldown: int = 0, min_scale: float = 0.0, name: str = "reduce_on_plateau",
) -> Technique:  # fmt: skip
    """Multiply the learning rate by `factor` when `metric` has not improved for `patience` evaluations in a row.

    Follows `optax.contrib.reduce_on_plateau`, counting evaluations instead of steps. A value improves if it beats the
    best so far by more than rtol * |best| + atol; NaN is no improvement. After a reduction, `cooldown` evaluations are
    not counted. The scale never falls below `min_scale`.

    The scale multiplies the updates of the experiment's optimizer, including a decoupled weight decay. The learning
    rate that a run records is the one before this scale. Limit: until the first reduction, training is unchanged.
    Effect on `stats`: none; all memory is in the optimizer state.

    Raises UserError for a factor outside (0, 1), a patience below 1, an unknown mode and, at the first evaluation, for
    a metric that the evaluation lacks.
    """
    initial_best = _initial_best(mode)
    _check_patience(patience)
    if not 0 < factor < 1:
        raise UserError(f"reduce_on_plateau(factor={factor}); expected a factor between 0 and 1.")

    def init(params):
        return PlateauState(jnp.float32(1), jnp.float32(initial_best), jnp.int32(0), jnp.int32(0))

    def update(updates, state, params=None):
        return jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), updates), state

    def judge(old, value):
        best = np.asarray(old.best)
        # `best` starts at infinity, and rtol * infinity would allow no improvement.
        margin = rtol * abs(best) + atol if np.isfinite(best) else 0.0
        better = value < best - margin if mode == "min" else value > best + margin
        waited = 0 if better else int(old.waited) + 1
        scale, cooling = float(old.scale), int(old.cooling)
        if cooling:
            waited, cooling = 0, cooling - 1
        elif waited >= patience:
            scale, waited, cooling = max(scale * factor, min_scale), 0, cooldown
        return _to_arrays_like(PlateauState(scale, value if better else best, waited, cooling), old)

    def observe(state, results):
        value = _metric_value(results, metric)
        if value is None:
            return state
        match = lambda x: isinstance(x, PlateauState)
        return state._replace(opt=jax.tree.map(lambda x: judge(x, value) if match(x) else x, state.opt, is_leaf=match))

    scale = optax.GradientTransformation(init, update)
    return Technique(name, observe=observe, metric=metric, optimizer=lambda optimizer: optax.chain(optimizer, scale))


def _metric_value(results: Mapping[str, Any], metric: str) -> np.float32 | None:
    """Return the value as f32, the stored precision; None if its evaluation was not due."""
    if metric in results:
        return np.float32(results[metric])
    evaluation = metric.partition("/")[0]
    if "/" not in metric or any(name.partition("/")[0] == evaluation for name in results):
        raise unknown("metric to observe", metric, results)
    return None


def _to_arrays_like(new: Tree, old: Tree) -> Tree:
    """Convert numbers to arrays with the dtypes and the placement of the old ones."""
    return jax.tree.map(lambda n, o: put(np.asarray(n, o.dtype), o.sharding), new, old)


def _initial_best(mode: str) -> float:
    if mode not in ("min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    return np.inf if mode == "min" else -np.inf


def _check_patience(patience: int) -> None:
    if patience < 1:
        raise UserError(f"patience={patience}; expected at least 1 evaluation.")
