"""Optimizer state that takes less of the accelerator's memory: kept in 16 bits, or in the host's memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from research.axes import Array, Float, Int, Key
from research.core import Tree, draw


class NarrowState(NamedTuple):
    """The wrapped optimizer's state, its floating-point arrays in the narrow type, and the number of updates."""

    inner: Tree
    count: Int[Array, ""]


def narrow(
    optimizer: optax.GradientTransformation, dtype: DTypeLike = jnp.bfloat16
) -> optax.GradientTransformationExtraArgs:
    """The optimizer with its state kept in `dtype` between updates and computed in f32.

    Every array is rounded up or down at random, with the odds that keep its mean (Gupta et al. 2015, section 3).
    Rounding to the nearest would lose what changes slowly: with b2 = 0.999 Adam's second moment moves by a thousandth,
    and bfloat16 has steps of a hundredth. The randomness is a function of the count of updates alone, so nothing random
    is stored. Arrays without axes (counts, schedules) stay as they are. With f32 it is the optimizer itself.
    """
    inner = optax.with_extra_args_support(optimizer)
    packed = lambda x: x.ndim > 0 and x.dtype == jnp.float32

    def init(params):
        state = jax.tree.map(lambda x: x.astype(dtype) if packed(x) else x, inner.init(params))
        return NarrowState(state, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        wide = cast_back(state.inner, jax.eval_shape(inner.init, params))
        updates, wide = inner.update(updates, wide, params, **extra)
        key = draw(0, "narrow", state.count)
        leaves, form = jax.tree.flatten(wide)
        kept = [round_at_random(draw(key, i), x, dtype) if packed(x) else x for i, x in enumerate(leaves)]
        return updates, NarrowState(form.unflatten(kept), optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def cast_back(tree: Tree, like: Tree) -> Tree:
    """The arrays of a tree in the types of `like`."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def round_at_random(
    key: Key[Array, ""], x: Float[Array, "*entry"], dtype: DTypeLike = jnp.bfloat16
) -> Float[Array, "*entry"]:
    """Numbers in f32 rounded to one of their two neighbours in `dtype`, with probabilities whose mean is x.

    A number of `dtype` stays, and so does one that is not finite.
    """
    near = x.astype(dtype)
    wide = near.astype(jnp.float32)
    # The other neighbour lies on the far side of x.
    other = jnp.nextafter(near, jnp.where(wide < x, jnp.inf, -jnp.inf).astype(dtype)).astype(jnp.float32)
    share = jnp.where(wide == x, 0.0, (x - wide) / (other - wide))
    taken = jax.random.uniform(key, x.shape) < share
    return jnp.where(taken, other, wide).astype(dtype)


class OnHost(NamedTuple):
    """A state that lives in the host's memory: `research.distributed.sharding` places what is below this name there."""

    on_host: Tree


def offloaded(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimizer with its state in the host's memory; it comes to the device for the update of each step.

    Frees the accelerator of it (twice the params for Adam) between updates, at the price of moving it over the bus
    there and back; nothing else changes (ZeRO-Offload, Ren et al. 2021, which also updates on the host).
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, **extra):
        updates, new = inner.update(updates, state.on_host, params, **extra)
        return updates, OnHost(new)

    return optax.GradientTransformationExtraArgs(lambda params: OnHost(inner.init(params)), update)
