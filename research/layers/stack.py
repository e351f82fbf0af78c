"""Identical layers with stacked params: compiled once, and the form that a pipeline needs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, PyTree, Shaped
from research.core import draw, repeat
from research.distributed.sharding import num_shards
from research.errors import UserError, unknown
from research.layers.pipeline import pipelined


class Stack(nnx.Module):
    """Apply `depth` layers built by `build()` in sequence, as one loop over stacked params.

    The result equals that of a list of these layers with the same params. The params are under `stacked`, with a
    leading axis of layers. If `sources` are among the inputs, the layers have a cache, whose second axis is the layer.
    On a mesh with an axis "pipeline", each of its n devices holds depth / n layers, and a batch
    passes through them in `microbatches` parts (default: n); see `layers.pipeline`. `inputs` are the further arguments
    of a layer, such as a mask. An input is one for all examples if it is a vector, a boolean matrix or has a leading
    axis of 1; otherwise it has one row per example. Layer i draws random numbers from a key folded with i, and in a
    pipeline also with the microbatch number.

    With `remat`, the backward pass recomputes a layer's intermediate values instead of storing them (Chen et al. 2016,
    arXiv:1604.06174). `remat` names the policy for the values to store: "nothing_saveable",
    "dots_with_no_batch_dims_saveable" or another policy of `jax.checkpoint_policies`.

    Raises UserError for layers with stats, for an unknown policy, and if the depth is not a multiple of the stages or
    the batch size is not a multiple of the microbatches.
    """

    def __init__(self, build: Callable, depth: int, *, microbatches: int | None = None, remat: str | None = None):
        if remat and not callable(getattr(jax.checkpoint_policies, remat, None)):
            raise unknown(
                "remat policy", remat, [name for name in dir(jax.checkpoint_policies) if name.endswith("able")]
            )
        layers = [build() for _ in range(depth)]
        if jax.tree.leaves(nnx.state(layers[0], nnx.Not(nnx.Param))):
            raise UserError("layers with stats, such as BatchNorm, cannot be stacked; use a list.")
        params = jax.tree.map(lambda *x: jnp.stack(x), *(nnx.state(layer) for layer in layers))
        self.stacked = layers[0]
        nnx.update(self.stacked, params)
        self.depth, self.microbatches, self.remat = depth, microbatches, remat

    def __call__(
        self,
        x: PyTree[Float[Array, "batch ..."], " form"],
        *,
        cache: PyTree[Float[Array, "batch layers ..."]] = None,
        train: bool,
        rngs: nnx.Rngs | None = None,
        **inputs: Shaped[Array, "..."] | None,
    ) -> PyTree[Float[Array, "batch ..."]]:
        graph, params = nnx.split(self.stacked)
        keys = None if rngs is None else draw(rngs.dropout(), jnp.arange(self.depth))
        inputs = {name: value for name, value in inputs.items() if value is not None}
        shared = {name: value for name, value in inputs.items() if _is_shared(value)}
        rows = {name: value for name, value in inputs.items() if name not in shared}

        caches = jax.tree.map(lambda x: x.swapaxes(0, 1), cache)
        caching = "sources" in inputs

        def through(params, keys, x, rows, part=None):
            def body(x, layer):
                params, key, cache = layer
                if key is not None and part is not None:
                    key = draw(key, part)
                streams = None if key is None else nnx.Rngs(key)
                options = {"cache": cache} if caching else {}
                y = nnx.merge(graph, params)(x, **shared, **rows, **options, train=train, rngs=streams)
                return y if caching else (y, None)

            if self.remat:
                body = jax.checkpoint(body, policy=getattr(jax.checkpoint_policies, self.remat))
            x, caches_after = repeat(body, x, (params, keys, caches))
            return (x, jax.tree.map(lambda x: x.swapaxes(0, 1), caches_after)) if caching else x

        if num_shards("pipeline") == 1:
            return through(params, keys, x, rows)
        if caching:
            raise UserError("a pipeline has no cache; generate on a mesh without the axis pipeline.")
        if self.depth % num_shards("pipeline"):
            raise UserError(f"{self.depth} layers cannot be split over {num_shards('pipeline')} pipeline stages.")
        return pipelined(through, (params, keys), x, rows, microbatches=self.microbatches)


def _is_shared(x: Shaped[Array, "..."]) -> bool:
    """Return whether an input of the layers is the same for all examples."""
    return x.ndim == 1 or (x.ndim == 2 and x.dtype == bool) or len(x) == 1
