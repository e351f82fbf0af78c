"""A small convolutional network as matrix products, for methods that call a network many times on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Num
from research.layers.initializers import he_normal
from research.layers.linear import Linear
from research.models.fashion_cnn import space_to_depth


class StridedCNN(nnx.Module):
    """A network of 4 x 4 convolutions of stride 2 with ReLU, and one linear layer over all positions; returns logits.

    `image_shape` is (height, width, channels). Each convolution is one matrix product over `windows`: inside a loop,
    such as that of an adversarial attack, XLA runs a convolution some twenty times slower on CPU than outside.
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
    """Return the 4 x 4 windows of a convolution of stride 2.

    The image is zero-padded by one pixel on each side, but by two pixels at the bottom (right) if its height (width) is
    odd.
    """
    x = jnp.pad(x, ((0, 0), (1, 1 + x.shape[1] % 2), (1, 1 + x.shape[2] % 2), (0, 0)))
    x = space_to_depth(x)
    return jnp.concatenate([x[:, i : x.shape[1] - 1 + i, j : x.shape[2] - 1 + j] for i in (0, 1) for j in (0, 1)], -1)
