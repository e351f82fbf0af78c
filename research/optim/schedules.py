"""Schedules, `step -> value`, over optimizer steps."""

from __future__ import annotations

from collections.abc import Iterable

import optax

from research.errors import UserError


def warmup_cosine(peak: float, *, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """From 0 straight up to `peak` at step `warmup`, then down half a cosine to `end` at `steps`
    (Loshchilov & Hutter 2017, one cycle). Raises UserError if the warm-up is as long as the run.
    """
    if warmup >= steps:
        raise UserError(f"a warm-up of {warmup} steps leaves nothing of the run's {steps}.")
    if not warmup:
        return optax.cosine_decay_schedule(peak, steps, alpha=end / peak)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end)


def step_decay(value: float, *, at: Iterable[int], factor: float = 0.1) -> optax.Schedule:
    """`value`, multiplied by `factor` from each of the steps `at` on."""
    return optax.piecewise_constant_schedule(value, {step: factor for step in at})
