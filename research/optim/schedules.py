"""Schedules over optimizer steps, `step -> value`."""

from __future__ import annotations

from collections.abc import Iterable

import optax

from research.errors import UserError


def warmup_cosine(peak: float, *, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Increase linearly from 0 to `peak` at step `warmup`, then decay along half a cosine to `end` at `steps`.

    This is one cycle of Loshchilov & Hutter 2017. With peak 0 the value stays 0. Raises UserError if the warm-up is
    negative, or not shorter than the run.
    """
    _check_warmup(warmup, steps)
    if not warmup:
        return optax.cosine_decay_schedule(peak, steps, alpha=end / peak if peak else 0.0)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end)


def warmup_linear(peak: float, *, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Increase linearly from 0 to `peak` at step `warmup`, then decrease linearly to `end` at `steps`.

    This is the schedule of BERT (Devlin et al. 2019, appendix A.2). Raises UserError as `warmup_cosine`.
    """
    _check_warmup(warmup, steps)
    rise, fall = optax.linear_schedule(0.0, peak, warmup), optax.linear_schedule(peak, end, steps - warmup)
    return optax.join_schedules([rise, fall], [warmup])


def _check_warmup(warmup, steps):
    if not 0 <= warmup < steps:
        raise UserError(f"a warm-up of {warmup} steps in a run of {steps}; expected at least 0 and fewer than {steps}.")


def step_decay(value: float, *, at: Iterable[int], factor: float = 0.1) -> optax.Schedule:
    """Start at `value` and multiply it by `factor` at each of the steps `at`."""
    return optax.piecewise_constant_schedule(value, {step: factor for step in at})
