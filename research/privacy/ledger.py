"""The ledger of a private run: the epsilon spent so far, among its metrics and its evaluations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from research.axes import Array, Int
from research.core import Eval, Mean
from research.errors import UserError
from research.privacy import accountant


class Ledger(NamedTuple):
    """What an experiment takes: `schedules={"epsilon": ledger.spent}`, and `ledger.noted(Eval(...))` for its evals."""

    spent: Callable[[int | Int[Array, ""]], float]
    noted: Callable[[Eval], Eval]


def ledger(*, examples: int, batch_size: float, noise: float, delta: float) -> Ledger:
    """A Ledger of DP-SGD with Poisson batches of `batch_size` expected examples out of `examples`.

    `spent(step)` is the epsilon, at this delta, of all steps up to `step` with it included. `noted(ev)` is the Eval
    with one more number, `epsilon`: that of the weights which it evaluates, so that "test/epsilon" can be claimed.
    Both count optimizer steps, whatever the batches held. Validation and test examples must not be among those
    counted. Steps that a rollback repeats with other random numbers are spent twice and counted once.

    Raises UserError for numbers out of range, and where the extra `privacy` is not installed.
    """
    accountant.check_plan(examples=examples, batch_size=batch_size, delta=delta)

    @functools.lru_cache(maxsize=1024)
    def after(steps):
        return accountant.epsilon(examples=examples, batch_size=batch_size, noise=noise, steps=steps, delta=delta)

    def noted(ev):
        # A measure sees params, stats and a batch; the number of steps reaches it as one more entry of stats.
        def view(state):
            params, stats = ev.view(state)
            return params, {**stats, ENTRY: state.step}

        def measure(trained, batch):
            stats = dict(trained.stats)
            steps = Mean(jnp.asarray(stats.pop(ENTRY), jnp.float32), jnp.float32(1))
            measured = ev.measure(dataclasses.replace(trained, stats=stats), batch)
            if "epsilon" in measured:
                raise UserError("the evaluation measures an 'epsilon' of its own; rename it.")
            return {**measured, "epsilon": steps}

        def finish(results):
            steps = results["epsilon"]
            others = {name: value for name, value in results.items() if name != "epsilon"}
            found = dict(ev.finish(others)) if ev.finish else {}
            return {**found, "epsilon": after(round(float(steps)))}

        return ev._replace(view=view, measure=measure, finish=finish)

    return Ledger(lambda step: after(int(step) + 1), noted)


ENTRY = "private steps"
