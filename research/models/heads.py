"""A multilayer perceptron with one shared trunk and several linear heads."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
from flax import nnx

from research.axes import Array, Float, Num
from research.errors import UserError
from research.layers.linear import Linear


class MultiHeadMLP(nnx.Module):
    """A trunk of linear layers with ReLU and dropout, and linear heads on it; returns the outputs by name.

    `heads` is {name: size}. A head reads the last hidden layer, or the layer that `depths` {name: number of hidden
    layers below the head} selects. The trunk is computed once. Raises UserError for a depth out of range, or of an
    unknown head.
    """

    def __init__(
        self, input_shape, *, heads: Mapping[str, int], depths: Mapping[str, int] | None = None, hidden=(128, 128),
        dropout=0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        widths = (math.prod(input_shape), *hidden)
        init = nnx.initializers.he_normal()
        self.layers = nnx.List(
            Linear(a, b, kernel_init=init, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.depths = {name: (depths or {}).get(name, len(hidden)) for name in heads}
        for name, depth in (*self.depths.items(), *(depths or {}).items()):
            if name not in heads or not 0 <= depth <= len(hidden):
                raise UserError(f"head {name!r} at depth {depth}; expected one of {list(heads)} at 0 to {len(hidden)}.")
        self.heads = nnx.Dict({n: Linear(widths[self.depths[n]], size, rngs=rngs) for n, size in heads.items()})
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, x: Num[Array, "batch ..."], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> dict[str, Float[Array, "batch _"]]:
        levels = [x.reshape(len(x), -1)]
        for layer in self.layers:
            levels.append(self.dropout(jax.nn.relu(layer(levels[-1])), deterministic=not train, rngs=rngs))
        return {name: self.heads[name](levels[depth]) for name, depth in self.depths.items()}
