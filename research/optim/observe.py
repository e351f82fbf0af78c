"""Decisions that depend on evaluations: to stop early, to lower the learning rate. Their memory lives in the State.

An Observe sees the metrics of the evaluations of a step, `{"valid/loss": value}`. One whose metric was not evaluated
at a step leaves the State alone there. Evaluations at the end of a run are not observed.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Stop
from research.distributed.sharding import put
from research.errors import UserError, unknown


class Watch(NamedTuple):
    """What an experiment takes: `memories=(w.memory,)` and `observe=(w.observe,)`."""

    memory: Callable
    observe: Callable


class Plateau(NamedTuple):
    """What an experiment takes: `optimizer=optax.chain(..., p.scale)` and `observe=(p.observe,)`."""

    scale: optax.GradientTransformation
    observe: Callable


class PlateauState(NamedTuple):
    """The optimizer's share of a Plateau: the factor on its updates, and what the rule remembers."""

    scale: jax.Array
    best: jax.Array
    waited: jax.Array
    cooling: jax.Array


def early_stop(metric: str, *, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0,
               name: str = "early_stop") -> Watch:  # fmt: skip
    """Ends the run when `metric` (`valid/loss`) has not improved in `patience` evaluations in a row (Goodfellow et
    al. 2016, Algorithm 7.1). An improvement is a value beyond the best so far by more than `min_delta`; what is not
    a number is none. With `best=Best(metric, mode)` the experiment keeps the weights of the best evaluation.

    Keeps the entry `name` of stats, {best, waited}; training until the stop is unchanged. Raises UserError for a
    patience below 1 or another mode, and, at the first evaluation, for a metric that it does not have.
    """
    worst = _worst(mode)
    _check_patience(patience)

    def memory(key, params):
        return {name: {"best": jnp.float32(worst), "waited": jnp.int32(0)}}

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

    return Watch(memory, observe)


def reduce_on_plateau(
    metric: str, *, factor: float = 0.1, patience: int = 10, mode: Literal["min", "max"] = "min", rtol: float = 1e-4,
    atol: float = 0.0, cooldown: int = 0, min_scale: float = 0.0,
) -> Plateau:  # fmt: skip
    """Multiplies the learning rate by `factor` when `metric` has not improved in `patience` evaluations in a row.

    The rule is that of `optax.contrib.reduce_on_plateau`, counted in evaluations instead of steps: an improvement is a
    value beyond the best so far by more than rtol * |best| + atol; after a reduction `cooldown` evaluations are not
    counted; the scale never falls below `min_scale`. What is not a number is no improvement.

    `scale` multiplies the updates, so it is put last in the chain, where it also scales a decoupled weight decay. All
    memory is in its optimizer state: stats is left alone, and while nothing is reduced training is unchanged. An
    experiment's `schedules` show the learning rate before this scale.

    Raises UserError for a factor outside (0, 1), a patience below 1, another mode, a metric that an evaluation does
    not have, and where the optimizer does not hold `scale`.
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
        if not any(held(x) for x in jax.tree.leaves(state.opt, is_leaf=held)):
            raise UserError("the optimizer does not hold the plateau's scale: optax.chain(optimizer, plateau.scale).")
        return state._replace(opt=jax.tree.map(lambda x: judged(x, value) if held(x) else x, state.opt, is_leaf=held))

    return Plateau(optax.GradientTransformation(init, update), observe)


def _read(results, metric):
    """The value as f32, as it is remembered; None where its evaluation was not due."""
    if metric in results:
        return np.float32(results[metric])
    evaluation = metric.partition("/")[0]
    if "/" not in metric or any(found.partition("/")[0] == evaluation for found in results):
        raise unknown("metric to observe", metric, results)
    return None


def _like(new, old):
    """Numbers as arrays of the old ones' dtypes, placed as they are."""
    return jax.tree.map(lambda n, o: put(np.asarray(n, o.dtype), o.sharding), new, old)


def _worst(mode):
    if mode not in ("min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    return np.inf if mode == "min" else -np.inf


def _check_patience(patience):
    if patience < 1:
        raise UserError(f"a patience of {patience} evaluations; expected at least 1.")
