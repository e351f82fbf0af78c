"""A very small convolutional encoder for 28 x 28 greyscale images, and a self-supervised projection head."""

from __future__ import annotations

import jax
from flax import nnx

from research.axes import Array, Float, Num
from research.layers.batch_norm import BatchNorm
from research.layers.convolution import Conv
from research.layers.initializers import he_normal
from research.layers.linear import Linear
from research.models.vit import patches


class PatchCNN(nnx.Module):
    """A convolutional encoder for images of `size` x `size` pixels; returns features.

    The default has 150,368 parameters. Blocks of `patch` x `patch` pixels become `width` channels, and a 3 x 3
    convolution of stride 2 doubles the channels; both have BatchNorm and ReLU. One linear layer reads all positions.
    Nothing runs at full resolution, where memory bandwidth limits a CPU.
    """

    def __init__(self, *, size=28, channels=1, patch=4, width=32, features=128, rngs: nnx.Rngs):
        common = dict(kernel_init=he_normal(), use_bias=False, rngs=rngs)
        self.stem = Linear(patch * patch * channels, width, **common)
        self.stem_norm = BatchNorm(width)
        self.conv = Conv(width, 2 * width, (3, 3), strides=2, **common)
        self.conv_norm = BatchNorm(2 * width)
        self.grid, self.patch = size // patch, patch
        side = -(-self.grid // 2)
        self.head = Linear(side * side * 2 * width, features, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch features"]:
        x = self.stem(patches(x, self.patch).reshape(len(x), self.grid, self.grid, -1))
        x = jax.nn.relu(self.stem_norm(x, train=train))
        x = jax.nn.relu(self.conv_norm(self.conv(x), train=train))
        return self.head(x.reshape(len(x), -1))


class Projector(nnx.Module):
    """Two linear layers with BatchNorm and ReLU between them.

    This is the projection head of SimCLR, and the projection and prediction heads of BYOL (Grill et al. 2020, section
    3.2).
    """

    def __init__(self, inputs, *, hidden, outputs, rngs: nnx.Rngs):
        self.up = Linear(inputs, hidden, use_bias=False, rngs=rngs)
        self.norm = BatchNorm(hidden)
        self.down = Linear(hidden, outputs, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch outputs"]:
        return self.down(jax.nn.relu(self.norm(self.up(x), train=train)))
