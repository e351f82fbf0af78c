"""Balls around an example: what an attack may do to it, in one of three norms.

All functions here see one example, or a perturbation of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Key, Scalar
from research.core import draw

TINY = 1e-30  # below the norm of any gradient or perturbation that counts


class Norm(NamedTuple):
    """What an attack needs to know of a norm.

    `project(delta, radius)` is the point of the ball closest to `delta`; `steepest(gradient, free)` the step of norm 1
    that raises a linear function of this gradient most; `sample(key, shape, radius)` a point drawn evenly from the
    ball. `free` is false for entries that the valid range keeps from moving; only l1, which moves one, looks at it.
    """

    project: Callable[[Float[Array, "*example"], float | Scalar], Float[Array, "*example"]]
    steepest: Callable[[Float[Array, "*example"], Bool[Array, "*example"]], Float[Array, "*example"]]
    sample: Callable[[Key[Array, ""], tuple[int, ...], float | Scalar], Float[Array, "*example"]]


def project_linf(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """Every entry cut to -radius..radius."""
    return jnp.clip(delta, -radius, radius)


def project_l2(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """`delta`, shortened to Euclidean length `radius` if it is longer."""
    return delta * jnp.minimum(1, radius / jnp.maximum(l2_length(delta), TINY))


def project_l1(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """sign(delta) max(|delta| - theta, 0); theta >= 0 is the least that makes the sum of |.| at most `radius`
    (Duchi et al. 2008, figure 1: theta is the largest of (sum of the j largest |delta| - radius) / j, or 0).
    """
    size = jnp.abs(delta)
    largest_first = -jnp.sort(-size.reshape(-1))
    theta = jnp.max((jnp.cumsum(largest_first) - radius) / jnp.arange(1, size.size + 1))
    return jnp.sign(delta) * jnp.maximum(size - jnp.maximum(theta, 0), 0)


def l2_length(x: Float[Array, "*example"]) -> Scalar:
    """The Euclidean length; it does not underflow for small entries."""
    largest = jnp.maximum(jnp.max(jnp.abs(x)), TINY)
    return largest * jnp.sqrt(jnp.sum((x / largest) ** 2))


def _steepest_l1(gradient: Float[Array, "*example"], free: Bool[Array, "*example"]) -> Float[Array, "*example"]:
    # All on one entry. An entry at the edge of the valid range would be chosen again and again, and never move.
    size = jnp.where(free, jnp.abs(gradient), 0).reshape(-1)
    chosen = jnp.arange(size.size) == jnp.argmax(size)
    return jnp.sign(gradient) * chosen.reshape(gradient.shape) * free


def _sample_l2(key: Key[Array, ""], shape: tuple[int, ...], radius: float | Scalar) -> Float[Array, "*example"]:
    x = jax.random.normal(draw(key, "direction"), shape)
    # The volume grows with the radius to the power of the dimension.
    share = jax.random.uniform(draw(key, "length")) ** (1 / x.size)
    return radius * share * x / jnp.maximum(l2_length(x), TINY)


def _sample_l1(key: Key[Array, ""], shape: tuple[int, ...], radius: float | Scalar) -> Float[Array, "*example"]:
    # n of n + 1 exponential variables, over the sum of all, are even on the simplex and its inside.
    x = jax.random.exponential(draw(key, "size"), (math.prod(shape) + 1,))
    return radius * jax.random.rademacher(draw(key, "sign"), shape, jnp.float32) * (x[:-1] / x.sum()).reshape(shape)


linf = Norm(
    project_linf,
    lambda gradient, free: jnp.sign(gradient),
    lambda key, shape, radius: radius * jax.random.uniform(key, shape, minval=-1, maxval=1),
)
l2 = Norm(project_l2, lambda gradient, free: gradient / jnp.maximum(l2_length(gradient), TINY), _sample_l2)
l1 = Norm(project_l1, _steepest_l1, _sample_l1)
