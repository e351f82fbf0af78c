"""Small residual networks for 28 x 28 greyscale images; they train in minutes on two CPU cores."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Num
from research.errors import UserError
from research.layers.linear import Linear
from research.layers.pooling import global_max
from research.models.resnet import ConvNorm, Residual


class FashionCNN(nnx.Module):
    """A small residual network for images of even height and width; returns logits.

    It has 374,410 parameters at a width of 128. Blocks of 2 x 2 pixels become channels. A 3 x 3 convolution to `width
    // 2` channels, a 3 x 3 convolution of stride 2 to `width` channels, and one residual block follow, each with
    BatchNorm and ReLU. The linear head reads the maximum and the mean over all positions.

    Few operations run at full resolution, where memory bandwidth limits a CPU: a forward pass for one greyscale 28 x 28
    image takes 18 million multiplications. `group_size` is that of BatchNorm.
    """

    def __init__(self, *, channels=1, width=128, num_classes=10, group_size=None, rngs: nnx.Rngs):
        common = dict(group_size=group_size, rngs=rngs)
        self.stem = ConvNorm(4 * channels, width // 2, size=3, **common)
        self.down = ConvNorm(width // 2, width, size=3, strides=2, **common)
        sizes = ((3, width), (3, width))
        self.block = Residual(width, sizes=sizes, strides=1, shortcut="A", zero_init=False, **common)
        self.head = Linear(2 * width, num_classes, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        x = jax.nn.relu(self.stem(space_to_depth(x), train=train))
        x = jax.nn.relu(self.down(x, train=train))
        x = self.block(x, train=train)
        return self.head(jnp.concatenate([global_max(x), x.mean((1, 2))], axis=-1))


class FashionPyramid(nnx.Module):
    """A pyramid of linear layers for centred images of `size` x `size` pixels; returns logits.

    `size` must be even. The default has 522,858 parameters. Blocks of 2 x 2 pixels become channels, and a 3 x 3
    convolution maps them to the first of `widths`. For each further width, blocks of 2 x 2 positions become channels
    again (zero-padded if a side is odd), and a linear layer maps them to that width. A residual linear layer at each
    position and a `dense` layer over all positions follow. Every layer has BatchNorm and ReLU. The linear head reads
    the output of the dense layer, and the maximum and the mean over the positions.

    The images must be centred, because the dense layer has separate weights for each position. Almost all operations
    are products of two matrices: a forward pass for one greyscale 28 x 28 image takes 3 million multiplications. Raises
    UserError for images of another size.
    """

    def __init__(
        self, *, size=28, channels=1, widths=(48, 96, 160), dense=160, num_classes=10, group_size=None, rngs: nnx.Rngs
    ):  # fmt: skip
        common = dict(group_size=group_size, rngs=rngs)
        self.size, side = size, size // 2
        for _ in widths[1:]:
            side = -(-side // 2)
        self.stem = ConvNorm(4 * channels, widths[0], size=3, **common)
        self.merges = nnx.List(ConvNorm(4 * a, b, size=1, **common) for a, b in itertools.pairwise(widths))
        self.residual = ConvNorm(widths[-1], widths[-1], size=1, **common)
        self.dense = ConvNorm(side * side * widths[-1], dense, size=1, **common)
        self.head = Linear(2 * widths[-1] + dense, num_classes, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        if x.shape[1:3] != (self.size, self.size):
            raise UserError(f"images of {x.shape[1]} x {x.shape[2]} pixels; expected size={self.size}.")
        x = jax.nn.relu(self.stem(space_to_depth(x), train=train))
        for layer in self.merges:
            odd = [(0, n % 2) for n in x.shape[1:3]]
            x = jax.nn.relu(layer(space_to_depth(jnp.pad(x, ((0, 0), *odd, (0, 0)))), train=train))
        x = x + jax.nn.relu(self.residual(x, train=train))
        global_features = jax.nn.relu(self.dense(x.reshape(len(x), 1, 1, -1), train=train))[:, 0, 0]
        return self.head(jnp.concatenate([global_max(x), x.mean((1, 2)), global_features], axis=-1))


def space_to_depth(
    x: Num[Array, "batch height width channels"],
) -> Num[Array, "batch height//2 width//2 4*channels"]:
    """Turn each block of 2 x 2 pixels into the channels of one position, row by row.

    Raises UserError for an odd height or width.
    """
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        raise UserError(f"images of {height} x {width} pixels; expected an even height and width.")
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)
