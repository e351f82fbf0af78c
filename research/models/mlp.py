"""The multilayer perceptron."""

from __future__ import annotations

import math

import jax
from flax import nnx

from research.axes import Array, Float, Num
from research.layers.linear import Linear


class MLP(nnx.Module):
    """Linear layers with ReLU and dropout after each hidden layer, over all entries of an example; returns logits."""

    def __init__(self, input_shape, *, hidden=(128,), num_classes=10, dropout=0.0, rngs: nnx.Rngs):
        widths = (math.prod(input_shape), *hidden)
        init = nnx.initializers.he_normal()
        self.layers = nnx.List(
            Linear(a, b, kernel_init=init, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.head = Linear(widths[-1], num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, x: Num[Array, "batch ..."], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = self.dropout(jax.nn.relu(layer(x)), deterministic=not train, rngs=rngs)
        return self.head(x)
