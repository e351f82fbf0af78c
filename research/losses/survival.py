"""Proportional hazards: the loss of event times, with censoring."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Num, Shaped
from research.errors import UserError, unknown

TIES = ("breslow", "efron")


def cox(
    log_hazards: Float[Array, " batch"],
    times: Num[Array, " batch"],
    events: Shaped[Array, " batch"],
    *,
    ties: str = "efron",
    weights: Float[Array, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """Return -log of each event's term in Cox's partial likelihood, in nats; 0 for an example that is censored.

    Cox 1972: of the examples still at risk at the time of an event, the model's log hazard h says which one has it:
    -h_i + log sum_{j: t_j >= t_i} exp(h_j). `events` is 1 if the event occurred at `times`, and 0 if the example was
    last seen then, without it. For d events at one time, `efron` removes the fraction 0, 1/d, ... of their hazards from
    the sum (Efron 1977; their mean loss is given to each), and `breslow` none. Examples of weight 0 are not at risk.
    The terms depend on the rest of the batch, thus the loss does not add over examples. Costs batch squared.
    Raises UserError for an unknown `ties`, and for shapes that differ.
    """
    if ties not in TIES:
        raise unknown("ties", ties, TIES)
    if not log_hazards.shape == times.shape == events.shape:
        shapes = [list(x.shape) for x in (log_hazards, times, events)]
        raise UserError(f"log hazards, times and events have the shapes {shapes}; expected [batch] each.")
    real = jnp.ones(len(times), bool) if weights is None else weights > 0
    happened = (events > 0) & real
    h = jnp.where(real, log_hazards.astype(jnp.float32), 0)
    shift = jax.lax.stop_gradient(jnp.max(h))
    hazards = jnp.where(real, jnp.exp(h - shift), 0)
    at_risk = jnp.sum(jnp.where(times[None] >= times[:, None], hazards[None], 0), -1)
    if ties == "breslow":
        log_risk = jnp.log(jnp.where(happened, at_risk, 1))
    else:
        together = (times[None] == times[:, None]) & happened[None]
        tied, count = jnp.sum(jnp.where(together, hazards[None], 0), -1), jnp.sum(together, -1)
        # Each event of a tie has the mean over k of log(at_risk - k / count * tied); the k differ per row.
        k = jnp.arange(len(times))
        left = at_risk[:, None] - k / jnp.maximum(count, 1)[:, None] * tied[:, None]
        within = (k < count[:, None]) & happened[:, None]
        logs = jnp.where(within, jnp.log(jnp.where(within, left, 1)), 0)
        log_risk = logs.sum(-1) / jnp.maximum(count, 1)
    return jnp.where(happened, log_risk + shift - h, 0)
