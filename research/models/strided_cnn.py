"""A small convolutional network written as matrix products, for methods that call a network many times on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Num
from research.layers.initializers import he_normal
from research.layers.linear import Linear
from research.models.fashion_cnn import space_to_depth


class StridedCNN(nnx.Module):
    """4 x 4 convolutions of stride 2, each with ReLU, then one linear layer over all places left. Gives logits.

    `image_shape` is (height, width, channels). Each convolution is one matrix product over `windows`: on a CPU, XLA
    runs a convolution inside a loop some twenty times slower than outside, and attacks loop.
    """

    def __init__(self, image_shape, *, channels=(16, 32, 64), num_classes=10, rngs: nnx.Rngs):
        height, width, depth = image_shape
        self.layers = nnx.List()
        for features in channels:
            self.layers.append(Linear(16 * depth, features, kernel_init=he_normal(), rngs=rngs))
            height, width, depth = -(-height // 2), -(-width // 2), features
        self.head = Linear(height * width * depth, num_classes, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        for layer in self.layers:
            x = jax.nn.relu(layer(windows(x)))
        return self.head(x.reshape(len(x), -1))


def windows(
    x: Num[Array, "batch height width channels"],
) -> Num[Array, "batch (height+1)//2 (width+1)//2 16*channels"]:
    """The 4 x 4 windows that a convolution of stride 2 sees.

    The image is padded by one pixel of 0 on each side, by two below and to the right if its size is odd.
    """
    x = jnp.pad(x, ((0, 0), (1, 1 + x.shape[1] % 2), (1, 1 + x.shape[2] % 2), (0, 0)))
    x = space_to_depth(x)
    return jnp.concatenate([x[:, i : x.shape[1] - 1 + i, j : x.shape[2] - 1 + j] for i in (0, 1) for j in (0, 1)], -1)
