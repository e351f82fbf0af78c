"""Privacy ledger: report the epsilon spent so far among a run's metrics and evaluations."""

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
    """Hooks: `schedules={"epsilon": ledger.spent}` of the experiment, and `ledger.with_epsilon(Eval(...))`."""

    spent: Callable[[int | Int[Array, ""]], float]
    with_epsilon: Callable[[Eval], Eval]


def ledger(*, examples: int, batch_size: float, noise: float, delta: float) -> Ledger:
    """Make a Ledger of DP-SGD with Poisson batches of `batch_size` expected examples out of `examples`.

    `spent(step)` is the epsilon, at this delta, of all steps up to and including `step`. `with_epsilon(ev)` is the Eval
    with one more number, `epsilon`, spent by the weights that it evaluates, so that "test/epsilon" can be claimed. Both
    count optimizer steps, whatever the batches contained. `examples` must not include validation and test examples.
    Trap: steps that a rollback repeats with other random numbers are spent twice but counted once.

    Raises UserError for numbers out of range, and if the extra `privacy` is not installed.
    """
    accountant.check_plan(examples=examples, batch_size=batch_size, delta=delta)

    @functools.lru_cache(maxsize=1024)
    def epsilon_after(steps):
        return accountant.epsilon(examples=examples, batch_size=batch_size, noise=noise, steps=steps, delta=delta)

    def noted(ev):
        # A measure receives only params, stats and a batch, so the step count is passed as an extra stats entry.
        def view(state):
            params, stats = ev.view(state)
            return params, {**stats, ENTRY: state.step}

        def measure(trained, batch):
            stats = dict(trained.stats)
            steps = Mean(jnp.asarray(stats.pop(ENTRY), jnp.float32), jnp.float32(1))
            measured = ev.measure(dataclasses.replace(trained, stats=stats), batch)
            if "epsilon" in measured:
                raise UserError("the evaluation already has a metric 'epsilon' of its own; rename it.")
            return {**measured, "epsilon": steps}

        def finish(results):
            steps = results["epsilon"]
            own_results = {name: value for name, value in results.items() if name != "epsilon"}
            finished = dict(ev.finish(own_results)) if ev.finish else {}
            return {**finished, "epsilon": epsilon_after(round(float(steps)))}

        return ev._replace(view=view, measure=measure, finish=finish)

    return Ledger(lambda step: epsilon_after(int(step) + 1), noted)


ENTRY = "private steps"
