"""A small convolutional network for small images, such as the 8 x 8 digits."""

from __future__ import annotations

import jax
from flax import nnx

from research.axes import Array, Float, Num
from research.layers.convolution import Conv
from research.layers.initializers import he_normal
from research.layers.linear import Linear


class CNN(nnx.Module):
    """A network of 3 x 3 convolutions with ReLU and one linear layer over all positions; returns logits.

    Each convolution but the first halves the image. `image_shape` is (height, width) or (height, width, channels). The
    default has 3,818 parameters on the digits.
    """

    def __init__(self, image_shape=(8, 8), *, channels=(8, 16), num_classes=10, dropout=0.0, rngs: nnx.Rngs):
        height, width, depth = (*image_shape, 1)[:3]
        init = he_normal()
        self.layers = nnx.List()
        for number, features in enumerate(channels):
            strides = 2 if number else 1
            self.layers.append(Conv(depth, features, (3, 3), strides=strides, kernel_init=init, rngs=rngs))
            height, width, depth = -(-height // strides), -(-width // strides), features
        self.head = Linear(height * width * depth, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self,
        x: Num[Array, "batch height width"] | Num[Array, "batch height width channels"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch classes"]:
        x = x[..., None] if x.ndim == 3 else x
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        x = self.dropout(x.reshape(len(x), -1), deterministic=not train, rngs=rngs)
        return self.head(x)
