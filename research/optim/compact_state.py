"""Optimizer state that uses less accelerator memory: stored in 16 bits, or in host memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from research.axes import Array, Float, Int, Key
from research.core import Tree, draw


class LowPrecisionState(NamedTuple):
    """The wrapped optimizer's state, with f32 arrays stored in the narrow type, and the update count."""

    inner: Tree
    count: Int[Array, ""]


def low_precision_state(
    optimizer: optax.GradientTransformation, dtype: DTypeLike = jnp.bfloat16
) -> optax.GradientTransformationExtraArgs:
    """Store the optimizer's state in `dtype` between updates; compute updates in f32.

    Every array is rounded stochastically, without bias (Gupta et al. 2015, section 3). Rounding to nearest would lose
    slow changes: with b2 = 0.999 Adam's second moment moves by a thousandth, and bfloat16 has steps of a hundredth. The
    randomness depends only on the update count, so no random state is stored. Scalars (counts, schedules) are
    unchanged. Limit: with f32 it equals the wrapped optimizer.
    """
    inner = optax.with_extra_args_support(optimizer)
    is_narrow = lambda x: x.ndim > 0 and x.dtype == jnp.float32

    def init(params):
        state = jax.tree.map(lambda x: x.astype(dtype) if is_narrow(x) else x, inner.init(params))
        return LowPrecisionState(state, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        wide = cast_back(state.inner, jax.eval_shape(inner.init, params))
        updates, wide = inner.update(updates, wide, params, **extra)
        key = draw(0, "narrow", state.count)
        leaves, treedef = jax.tree.flatten(wide)
        narrowed = [stochastic_round(draw(key, i), x, dtype) if is_narrow(x) else x for i, x in enumerate(leaves)]
        return updates, LowPrecisionState(treedef.unflatten(narrowed), optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def cast_back(tree: Tree, like: Tree) -> Tree:
    """Cast the arrays of a tree to the dtypes of `like`."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def stochastic_round(
    key: Key[Array, ""], x: Float[Array, "*entry"], dtype: DTypeLike = jnp.bfloat16
) -> Float[Array, "*entry"]:
    """Round f32 numbers stochastically to one of their two neighbours in `dtype`, so that the mean is x.

    Numbers that `dtype` represents exactly, and non-finite ones, are unchanged.
    """
    nearest = x.astype(dtype)
    nearest_f32 = nearest.astype(jnp.float32)
    # The second neighbour lies on the far side of x.
    other = jnp.nextafter(nearest, jnp.where(nearest_f32 < x, jnp.inf, -jnp.inf).astype(dtype)).astype(jnp.float32)
    probability = jnp.where(nearest_f32 == x, 0.0, (x - nearest_f32) / (other - nearest_f32))
    use_other = jax.random.uniform(key, x.shape) < probability
    return jnp.where(use_other, other, nearest_f32).astype(dtype)


class OnHost(NamedTuple):
    """A state that lives in host memory: `research.distributed.sharding` places everything below this name there."""

    on_host: Tree


def offloaded(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Keep the optimizer's state in host memory; each step copies it to the device for the update.

    Between updates this frees the accelerator of the state (twice the params for Adam), at the cost of transferring it
    over the bus in both directions. Results do not change. ZeRO-Offload (Ren et al. 2021) also updates on the host.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, **extra):
        updates, new = inner.update(updates, state.on_host, params, **extra)
        return updates, OnHost(new)

    return optax.GradientTransformationExtraArgs(lambda params: OnHost(inner.init(params)), update)
