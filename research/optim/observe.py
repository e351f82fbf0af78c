"""Decisions that depend on evaluations: to stop early, to lower the learning rate. Their memory lives in the State.

An Observe sees the metrics of the evaluations of a step, `{"valid/loss": value}`. One whose metric was not evaluated
at a step leaves the State alone there. Evaluations at the end of a run are not observed.
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
    """The optimizer's share of a Plateau: the factor on its updates, and what the rule remembers."""

    scale: Float[Array, ""]
    best: Float[Array, ""]
    waited: Int[Array, ""]
    cooling: Int[Array, ""]


def early_stop(
    metric: str, *, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0,
    name: str = "early_stop",
) -> Technique:  # fmt: skip
    """Ends the run when `metric` (`valid/loss`) has not improved in `patience` evaluations in a row (Goodfellow et
    al. 2016, Algorithm 7.1). An improvement is a value beyond the best so far by more than `min_delta`; what is not
    a number is none. With `best=Best(metric, mode)` the experiment keeps the weights of the best evaluation.

    Keeps the entry `name` of stats, {best, waited}; training until the stop is unchanged. Raises UserError for a
    patience below 1 or another mode, and, at the first evaluation, for a metric that it does not have.
    """
    worst = _worst(mode)
    _check_patience(patience)

    def memory(key, params):
        return {"best": jnp.float32(worst), "waited": jnp.int32(0)}

    def observe(state, results):
        value = _read(results, metric)
        if value is None:
            return state
        old = state.stats[name]
        best = np.asarray(old["best"])
        better = value < best - min_delta if mode == "min" else value > best + min_delta
        waited = 0 if better else int(old["waited"]) + 1
        new = _like({"best": value if better else best, "waited": waited}, old)
        state = state._replace(stats={**state.stats, name: new})
        if waited < patience:
            return state
        return Stop(state, f"{metric} has not been better than {best:.6g} in {patience} evaluations.")

    return Technique(name, memory=memory, observe=observe, metric=metric)


def reduce_on_plateau(
    metric: str, *, factor: float = 0.1, patience: int = 10, mode: Literal["min", "max"] = "min", rtol: float = 1e-4,
    atol: float = 0.0, cooldown: int = 0, min_scale: float = 0.0, name: str = "reduce_on_plateau",
) -> Technique:  # fmt: skip
    """Multiplies the learning rate by `factor` when `metric` has not improved in `patience` evaluations in a row.

    The rule is that of `optax.contrib.reduce_on_plateau`, counted in evaluations instead of steps: an improvement is a
    value beyond the best so far by more than rtol * |best| + atol; after a reduction `cooldown` evaluations are not
    counted; the scale never falls below `min_scale`. What is not a number is no improvement.

    The scale multiplies the updates of the experiment's optimizer, a decoupled weight decay included. All memory is in
    the optimizer state: stats is left alone, and while nothing is reduced training is unchanged. The learning rate that
    a run records is the one before this scale.

    Raises UserError for a factor outside (0, 1), a patience below 1, another mode, and a metric that an evaluation does
    not have.
    """
    worst = _worst(mode)
    _check_patience(patience)
    if not 0 < factor < 1:
        raise UserError(f"a plateau that multiplies the learning rate by {factor}; expected between 0 and 1.")

    def init(params):
        return PlateauState(jnp.float32(1), jnp.float32(worst), jnp.int32(0), jnp.int32(0))

    def update(updates, state, params=None):
        return jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), updates), state

    def judged(old, value):
        best = np.asarray(old.best)
        # Of the infinity that it starts from no share can be taken.
        margin = rtol * abs(best) + atol if np.isfinite(best) else 0.0
        better = value < best - margin if mode == "min" else value > best + margin
        waited = 0 if better else int(old.waited) + 1
        scale, cooling = float(old.scale), int(old.cooling)
        if cooling:
            waited, cooling = 0, cooling - 1
        elif waited >= patience:
            scale, waited, cooling = max(scale * factor, min_scale), 0, cooldown
        return _like(PlateauState(scale, value if better else best, waited, cooling), old)

    def observe(state, results):
        value = _read(results, metric)
        if value is None:
            return state
        held = lambda x: isinstance(x, PlateauState)
        return state._replace(opt=jax.tree.map(lambda x: judged(x, value) if held(x) else x, state.opt, is_leaf=held))

    scale = optax.GradientTransformation(init, update)
    return Technique(name, observe=observe, metric=metric, optimizer=lambda optimizer: optax.chain(optimizer, scale))


def _read(results: Mapping[str, Any], metric: str) -> np.float32 | None:
    """The value as f32, as it is remembered; None if its evaluation was not due."""
    if metric in results:
        return np.float32(results[metric])
    evaluation = metric.partition("/")[0]
    if "/" not in metric or any(found.partition("/")[0] == evaluation for found in results):
        raise unknown("metric to observe", metric, results)
    return None


def _like(new: Tree, old: Tree) -> Tree:
    """Numbers as arrays of the old ones' dtypes, placed as they are."""
    return jax.tree.map(lambda n, o: put(np.asarray(n, o.dtype), o.sharding), new, old)


def _worst(mode: str) -> float:
    if mode not in ("min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    return np.inf if mode == "min" else -np.inf


def _check_patience(patience: int) -> None:
    if patience < 1:
        raise UserError(f"a patience of {patience} evaluations; expected at least 1.")
