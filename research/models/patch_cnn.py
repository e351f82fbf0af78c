"""A very small convolutional encoder for 28 x 28 grey images, and the head that self-supervised methods put on it."""

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
    """The features of images of `size` x `size` pixels; 150,368 parameters by default.

    `patch` x `patch` pixels become `width` channels, a 3 x 3 convolution of stride 2 makes twice as many, both with
    BatchNorm and ReLU, and one linear layer sees all places left. Nothing is computed at full size: there a CPU
    spends its time on moving memory.
    """

    def __init__(self, *, size=28, channels=1, patch=4, width=32, features=128, rngs: nnx.Rngs):
        common = dict(kernel_init=he_normal(), use_bias=False, rngs=rngs)
        self.stem = Linear(patch * patch * channels, width, **common)
        self.stem_norm = BatchNorm(width)
        self.conv = Conv(width, 2 * width, (3, 3), strides=2, **common)
        self.conv_norm = BatchNorm(2 * width)
        self.grid, self.patch = size // patch, patch
        left = -(-self.grid // 2)
        self.head = Linear(left * left * 2 * width, features, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch features"]:
        x = self.stem(patches(x, self.patch).reshape(len(x), self.grid, self.grid, -1))
        x = jax.nn.relu(self.stem_norm(x, train=train))
        x = jax.nn.relu(self.conv_norm(self.conv(x), train=train))
        return self.head(x.reshape(len(x), -1))


class Projector(nnx.Module):
    """Two linear layers with BatchNorm and ReLU between them.

    The projection head of SimCLR, and BYOL's projection and prediction (Grill et al. 2020, section 3.2).
    """

    def __init__(self, inputs, *, hidden, outputs, rngs: nnx.Rngs):
        self.up = Linear(inputs, hidden, use_bias=False, rngs=rngs)
        self.norm = BatchNorm(hidden)
        self.down = Linear(hidden, outputs, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch outputs"]:
        return self.down(jax.nn.relu(self.norm(self.up(x), train=train)))
