"""Classification losses that tolerate wrong labels.

Each is a maker of `(logits, labels) -> loss per example` for `classify(per_example=...)`. Labels are class numbers.
`forward_corrected` needs the probabilities of mistakes; the others assume nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Integer
from research.errors import UserError, check_range
from research.losses.classification import cross_entropy


def generalized(q: float = 0.7) -> Callable:
    """Return the generalized cross-entropy (1 - p^q) / q, p the probability of the label (Zhang & Sabuncu 2018, eq. 6).

    In the limit q -> 0 it is the cross-entropy; q = 1 is 1 - p, half the L1 distance between prediction and label,
    which symmetric label noise does not bias but which learns slowly. Raises UserError for q outside 0..1.
    """
    check_range("generalized", q=(q, 0, 1))

    def loss(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
        nats = cross_entropy(logits, labels)
        return -jnp.expm1(-q * nats) / q if q else nats

    return loss


def symmetric(alpha: float = 0.1, beta: float = 1.0, *, log_zero: float = -4.0) -> Callable:
    """Return alpha * cross-entropy + beta * reverse cross-entropy (Wang et al. 2019, equations 5 and 7).

    The reverse cross-entropy -sum_c p_c log y_c takes `log_zero` for log 0 and is thus -log_zero (1 - p), p the
    probability of the label. With beta 0 and alpha 1 it equals the cross-entropy. The defaults are the paper's for
    CIFAR-10. Raises UserError for a negative alpha or beta, and for log_zero of 0 or above.
    """
    check_range("symmetric", alpha=(alpha, 0, float("inf")), beta=(beta, 0, float("inf")))
    if not log_zero < 0:
        raise UserError(f"symmetric(log_zero={log_zero}); expected a negative number, in place of log 0.")

    def loss(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
        nats = cross_entropy(logits, labels)
        return alpha * nats + beta * log_zero * jnp.expm1(-nats)

    return loss


def bootstrapped(beta: float = 0.95, *, hard: bool = False) -> Callable:
    """Return the cross-entropy with the target beta * label + (1 - beta) * prediction (Reed et al. 2015, section 3).

    The prediction is the softmax (equation 6) or, with `hard`, its most probable class (equation 7; the paper uses beta
    0.8 there). The softmax in the target is differentiated too, thus the loss is also an entropy regularizer. With
    beta 1 it equals the cross-entropy. Raises UserError for beta outside 0..1.
    """
    check_range("bootstrapped", beta=(beta, 0, 1))

    def loss(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
        own = logits.argmax(-1) if hard else jax.nn.softmax(logits.astype(jnp.float32))
        return beta * cross_entropy(logits, labels) + (1 - beta) * cross_entropy(logits, own)

    return loss


def forward_corrected(transition: Float[Array, "classes classes"]) -> Callable:
    """Return the cross-entropy of the observed label under p @ transition (Patrini et al. 2017, theorem 2).

    transition[i, j] is the probability that an example of class i is labelled j. With the identity, the loss equals the
    cross-entropy. Raises UserError unless the matrix is square, and its rows are probabilities.
    """
    matrix = np.asarray(transition, np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"the transition matrix is {list(matrix.shape)}; expected [classes, classes].")
    wrong = (matrix < 0).any(1) | ~(abs(matrix.sum(1) - 1) < 1e-4)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(f"row {row} of the transition matrix is {matrix[row].tolist()}; expected probabilities, sum 1.")
    with np.errstate(divide="ignore"):
        log_transition = np.log(matrix)

    def loss(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
        if logits.shape[-1] != len(matrix):
            raise UserError(f"a transition matrix of {len(matrix)} classes for logits of {logits.shape[-1]}.")
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        return cross_entropy(jax.nn.logsumexp(log_p[..., None] + log_transition, -2), labels)

    return loss
