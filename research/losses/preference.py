"""Losses of preferences: one of two responses to the same prompt is better."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.errors import UserError, check_range


def dpo(beta: float = 0.1, *, smoothing: float = 0.0) -> Callable:
    """Return the loss of direct preference optimization, margin [*batch] -> loss, in nats.

    With h the margin, -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h) (Rafailov et al. 2023, arXiv:2305.18290,
    equation 7). The margin is log p(chosen) - log p(rejected) under the model, minus the same under the reference.
    `beta` is the strength of the KL penalty: the optimal model is reference * exp(reward / beta). `smoothing` e is the
    probability that a preference is wrong. Raises UserError for a beta that is not above 0 and an e outside 0..0.5.
    """
    _check_beta("dpo", beta)
    check_range("dpo", smoothing=(smoothing, 0, 0.5))

    def loss(margin: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        x = beta * margin
        return (1 - smoothing) * jax.nn.softplus(-x) + smoothing * jax.nn.softplus(x)

    return loss


def ipo(beta: float = 0.1) -> Callable:
    """Return the loss of identity preference optimization, margin [*batch] -> (margin - 1 / (2 beta))^2.

    Azar et al. 2023 (arXiv:2310.12036), equation 17. The margin is that of `dpo`. It is drawn to a finite value, thus
    the KL penalty still acts if all preferences agree. Raises UserError for a beta that is not above 0.
    """
    _check_beta("ipo", beta)

    def loss(margin: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        return jnp.square(margin - 1 / (2 * beta))

    return loss


def _check_beta(owner, beta):
    if not 0 < beta < float("inf"):
        raise UserError(f"{owner}(beta={beta}); expected a finite number above 0.")
