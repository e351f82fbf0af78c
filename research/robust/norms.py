"""Norm balls around an example, which limit what an attack may change: linf, l2 and l1.

All functions take one example, or a perturbation of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Key, Scalar
from research.core import draw

TINY = 1e-30  # avoids division by 0; below the norm of any gradient or perturbation that matters


class Norm(NamedTuple):
    """The three operations on a norm that an attack needs.

    `project(delta, radius)` returns the point of the ball closest to `delta`. `steepest(gradient, free)` returns the
    step of norm 1 that most increases a linear function with this gradient. `sample(key, shape, radius)` draws a point
    uniformly from the ball. `free` is false for entries that the valid range keeps from moving; only l1, which moves a
    single entry, uses it.
    """

    project: Callable[[Float[Array, "*example"], float | Scalar], Float[Array, "*example"]]
    steepest: Callable[[Float[Array, "*example"], Bool[Array, "*example"]], Float[Array, "*example"]]
    sample: Callable[[Key[Array, ""], tuple[int, ...], float | Scalar], Float[Array, "*example"]]


def project_linf(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """Clip every entry to -radius..radius."""
    return jnp.clip(delta, -radius, radius)


def project_l2(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """Scale `delta` down to Euclidean length `radius` if it is longer."""
    return delta * jnp.minimum(1, radius / jnp.maximum(l2_norm(delta), TINY))


def project_l1(delta: Float[Array, "*example"], radius: float | Scalar) -> Float[Array, "*example"]:
    """Project onto the l1 ball by soft thresholding: sign(delta) max(|delta| - theta, 0).

    theta >= 0 is the smallest value that makes the sum of |.| at most `radius`: the maximum over j of (sum of the j
    largest |delta| - radius) / j, or 0 (Duchi et al. 2008, figure 1).
    """
    size = jnp.abs(delta)
    largest_first = -jnp.sort(-size.reshape(-1))
    theta = jnp.max((jnp.cumsum(largest_first) - radius) / jnp.arange(1, size.size + 1))
    return jnp.sign(delta) * jnp.maximum(size - jnp.maximum(theta, 0), 0)


def l2_norm(x: Float[Array, "*example"]) -> Scalar:
    """Compute the Euclidean length without underflow for small entries."""
    largest = jnp.maximum(jnp.max(jnp.abs(x)), TINY)
    return largest * jnp.sqrt(jnp.sum((x / largest) ** 2))


def _steepest_l1(gradient: Float[Array, "*example"], free: Bool[Array, "*example"]) -> Float[Array, "*example"]:
    # The step moves one entry. Without `free`, an entry at the edge of the valid range could be chosen forever.
    size = jnp.where(free, jnp.abs(gradient), 0).reshape(-1)
    is_largest = jnp.arange(size.size) == jnp.argmax(size)
    return jnp.sign(gradient) * is_largest.reshape(gradient.shape) * free


def _sample_l2(key: Key[Array, ""], shape: tuple[int, ...], radius: float | Scalar) -> Float[Array, "*example"]:
    x = jax.random.normal(draw(key, "direction"), shape)
    # The volume grows with the radius to the power of the dimension, so the radius needs the inverse power.
    fraction = jax.random.uniform(draw(key, "length")) ** (1 / x.size)
    return radius * fraction * x / jnp.maximum(l2_norm(x), TINY)


def _sample_l1(key: Key[Array, ""], shape: tuple[int, ...], radius: float | Scalar) -> Float[Array, "*example"]:
    # n of n + 1 exponential variables, divided by the sum of all, are uniform on the solid simplex.
    x = jax.random.exponential(draw(key, "size"), (math.prod(shape) + 1,))
    return radius * jax.random.rademacher(draw(key, "sign"), shape, jnp.float32) * (x[:-1] / x.sum()).reshape(shape)


linf = Norm(
    project_linf,
    lambda gradient, free: jnp.sign(gradient),
    lambda key, shape, radius: radius * jax.random.uniform(key, shape, minval=-1, maxval=1),
)
l2 = Norm(project_l2, lambda gradient, free: gradient / jnp.maximum(l2_norm(gradient), TINY), _sample_l2)
l1 = Norm(project_l1, _steepest_l1, _sample_l1)
