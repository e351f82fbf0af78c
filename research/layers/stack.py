"""Layers of one kind kept as one, with a leading axis on every param: compiled once, and the form a pipeline needs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float, PyTree, Shaped
from research.core import draw, repeat
from research.distributed.sharding import ways
from research.errors import UserError, unknown
from research.layers.pipeline import pipelined


class Stack(nnx.Module):
    """`depth` layers made by `build()`, one after the other in a loop.

    Computes the same as a list of these layers, from the same params; they lie under `stacked`, with a leading axis of
    layers. On a mesh with an axis "pipeline" each of its n devices holds depth / n layers, and a batch goes through
    them in `microbatches` parts (by default one a device): see `layers.pipeline`. `mask` is the same for all examples,
    or has a row for each. Layer i draws from a key folded with i.

    With `remat` the backward pass computes a layer's inner values anew instead of keeping them (Chen et al. 2016,
    arXiv:1604.06174); it names the values to keep: "nothing_saveable", "dots_with_no_batch_dims_saveable" or another
    policy of `jax.checkpoint_policies`.

    Raises UserError for layers that keep stats, an unknown policy, and if depth or batch do not divide.
    """

    def __init__(self, build: Callable, depth: int, *, microbatches: int | None = None, remat: str | None = None):
        if remat and not callable(getattr(jax.checkpoint_policies, remat, None)):
            raise unknown(
                "remat policy", remat, [name for name in dir(jax.checkpoint_policies) if name.endswith("able")]
            )
        layers = [build() for _ in range(depth)]
        if jax.tree.leaves(nnx.state(layers[0], nnx.Not(nnx.Param))):
            raise UserError("layers that keep stats, such as BatchNorm, cannot be stacked.")
        params = jax.tree.map(lambda *x: jnp.stack(x), *(nnx.state(layer) for layer in layers))
        self.stacked = layers[0]
        nnx.update(self.stacked, params)
        self.depth, self.microbatches, self.remat = depth, microbatches, remat

    def __call__(
        self,
        x: PyTree[Float[Array, "batch ..."], " form"],
        *,
        mask: Bool[Array, "time time"] | Shaped[Array, "batch ..."] | None = None,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> PyTree[Float[Array, "batch ..."], " form"]:
        graph, params = nnx.split(self.stacked)
        keys = None if rngs is None else draw(rngs.dropout(), jnp.arange(self.depth))
        fixed = mask is not None and mask.dtype == bool and mask.ndim == 2

        def through(params, keys, x, rows, part=None):
            def body(x, layer):
                params, key = layer
                if key is not None and part is not None:
                    key = draw(key, part)
                streams = None if key is None else nnx.Rngs(key)
                seen = mask if fixed else rows
                return nnx.merge(graph, params)(x, mask=seen, train=train, rngs=streams), None

            if self.remat:
                body = jax.checkpoint(body, policy=getattr(jax.checkpoint_policies, self.remat))
            return repeat(body, x, (params, keys))[0]

        rows = None if fixed else mask
        if ways("pipeline") == 1:
            return through(params, keys, x, rows)
        if self.depth % ways("pipeline"):
            raise UserError(f"{self.depth} layers cannot be split over {ways('pipeline')} stages of a pipeline.")
        return pipelined(through, (params, keys), x, rows, microbatches=self.microbatches)
