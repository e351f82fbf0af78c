"""Batch normalisation whose group of examples is an argument, not an accident of the hardware."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float
from research.errors import UserError


class BatchNorm(nnx.Module):
    """Normalises each feature over groups of examples (Ioffe & Szegedy 2015).

    `group_size=None` takes the whole global batch as one group, however it is split over devices. A number takes
    that many consecutive examples as a group: with the batch a device had in a paper tuned under pmap (or
    PyTorch's data parallelism) it computes the same as that paper. The running mean and (biased) variance move by
    `1 - momentum` towards the average over the groups, and evaluation uses them. Statistics are in f32.

    Raises UserError if the batch is not a multiple of the group.
    """

    def __init__(self, features, *, group_size=None, momentum=0.9, epsilon=1e-5, scale_init=1.0):
        self.scale = nnx.Param(jnp.full(features, scale_init, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))
        self.group_size, self.momentum, self.epsilon = group_size, momentum, epsilon

    def __call__(
        self, x: Float[Array, "batch *space features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch *space features"]:
        if not train:
            return self._normalize(x, self.mean[...], self.var[...])
        size = self.group_size or len(x)
        if len(x) % size:
            raise UserError(f"a batch of {len(x)} examples cannot be split into BatchNorm groups of {size}.")
        # An axis of one group would cost a ResNet's step 4 % on CPU.
        groups = x.reshape(-1, size, *x.shape[1:]) if size < len(x) else x
        axes = tuple(range(groups.ndim - x.ndim, groups.ndim - 1))
        wide = groups.astype(jnp.float32)
        mean = wide.mean(axes, keepdims=True)
        # Both means in one pass over x; rounding may take their difference below zero.
        var = jnp.maximum(jnp.square(wide).mean(axes, keepdims=True) - jnp.square(mean), 0)
        for running, seen in ((self.mean, mean), (self.var, var)):
            seen = jax.lax.stop_gradient(seen.reshape(-1, seen.shape[-1]).mean(0))
            running[...] = self.momentum * running[...] + (1 - self.momentum) * seen
        return self._normalize(groups, mean, var).reshape(x.shape)

    def _normalize(self, x: Float[Array, "*batch features"], mean, var) -> Float[Array, "*batch features"]:
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        # Not (x - mean) * scale: its gradient would keep x - mean beside x, a quarter of a ResNet's memory.
        return (x.astype(jnp.float32) * scale + (self.bias[...] - mean * scale)).astype(x.dtype)
