"""Residual networks (He et al. 2016): the CIFAR-10 family of section 4.2 and the ImageNet family of table 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Num
from research.errors import UserError
from research.layers.batch_norm import BatchNorm
from research.layers.convolution import Conv
from research.layers.initializers import he_normal
from research.layers.linear import Linear

# Of the ImageNet family: the blocks in each stage, by the number of layers.
PLANS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def cifar_resnet(depth: int, **arguments) -> ResNet:
    """Build the three-stage ResNet with 6n + 2 layers for 32 x 32 images; the paper's shortcuts are option "A".

    20 layers have 0.27 M parameters, 56 layers 0.85 M (table 6). Raises UserError if `depth` is not 6n + 2.
    """
    if depth < 8 or (depth - 2) % 6:
        closest = 6 * max(1, round((depth - 2) / 6)) + 2
        raise UserError(f"a CIFAR ResNet of {depth} layers; expected 6n + 2 (20, 32, 44, 56, 110), such as {closest}.")
    return ResNet(**{"blocks": ((depth - 2) // 6,) * 3, "width": 16, "stem": "small", "shortcut": "A", **arguments})


def imagenet_resnet(depth: int, **arguments) -> ResNet:
    """Build the ImageNet ResNet with 18, 34, 50, 101 or 152 layers and projection shortcuts (option "B").

    The 3 x 3 convolution of a bottleneck has the stride, as in all later implementations; in the paper, the first 1 x 1
    convolution has it. Raises UserError for another depth.
    """
    if depth not in PLANS:
        raise UserError(f"an ImageNet ResNet of {depth} layers is not in the paper. Valid: {sorted(PLANS)}.")
    return ResNet(**{"blocks": PLANS[depth], "bottleneck": depth >= 50, "num_classes": 1000, **arguments})


class ResNet(nnx.Module):
    """A residual network for images with three channels; returns logits.

    `blocks` lists the number of residual blocks in each stage. Each stage but the first halves the image and doubles
    the channels. `stem` is "small" (one 3 x 3 convolution) or "large" (a 7 x 7 convolution and pooling, both of stride
    2). If a block changes the shape, its `shortcut` is "A" (subsampled and padded with zero channels, without
    parameters) or "B" (a 1 x 1 convolution). `group_size` is that of BatchNorm. With `zero_init` each block starts as
    the identity, because its last BatchNorm scale is 0 (Goyal et al. 2017, section 5.1).

    Raises UserError for an unknown stem or shortcut.
    """

    def __init__(
        self, *, blocks, width=64, bottleneck=False, stem="large", shortcut="B", num_classes=10,
        group_size=None, zero_init=False, rngs: nnx.Rngs,
    ):  # fmt: skip
        if stem not in ("small", "large") or shortcut not in ("A", "B"):
            raise UserError(f"stem={stem!r}, shortcut={shortcut!r}; expected 'small' or 'large', and 'A' or 'B'.")
        common = dict(group_size=group_size, rngs=rngs)
        self.stem = ConvNorm(3, width, size=3 if stem == "small" else 7, strides=1 if stem == "small" else 2, **common)
        self.pool = stem == "large"
        self.blocks = nnx.List()
        channels = width
        for stage, count in enumerate(blocks):
            for number in range(count):
                inner, strides = width * 2**stage, 2 if stage and not number else 1
                sizes = ((1, inner), (3, inner), (1, 4 * inner)) if bottleneck else ((3, inner), (3, inner))
                self.blocks.append(
                    Residual(channels, sizes=sizes, strides=strides, shortcut=shortcut, zero_init=zero_init, **common)
                )
                channels = sizes[-1][1]
        self.head = Linear(channels, num_classes, rngs=rngs)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        x = jax.nn.relu(self.stem(x, train=train))
        if self.pool:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x, train=train)
        return self.head(x.mean((1, 2)))


class ConvNorm(nnx.Module):
    """A convolution with symmetric padding, then BatchNorm; `strides` divides height and width."""

    def __init__(self, channels, out, *, size, strides=1, scale_init=1.0, group_size, rngs: nnx.Rngs):
        # "SAME" would pad a strided convolution on one side only, which shifts it relative to the shortcut.
        padding = ((size // 2,) * 2,) * 2
        init = he_normal()
        self.conv = Conv(
            channels, out, (size, size), strides=strides, padding=padding, use_bias=False, kernel_init=init,
            rngs=rngs,
        )  # fmt: skip
        # He et al. state neither momentum nor epsilon; their released models use 0.9 and 1e-5.
        self.norm = BatchNorm(out, group_size=group_size, momentum=0.9, epsilon=1e-5, scale_init=scale_init)

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch _height _width outputs"]:
        return self.norm(self.conv(x), train=train)


class Residual(nnx.Module):
    """Compute relu(shortcut(x) + convolutions(x)); `sizes` lists (kernel size, channels) of each convolution."""

    def __init__(self, channels, *, sizes, strides, shortcut, zero_init, **common):
        self.layers = nnx.List()
        inner = channels
        for number, (size, out) in enumerate(sizes):
            last = number == len(sizes) - 1
            # The stride is in a bottleneck's 3 x 3 convolution, and in the first convolution of a basic block.
            layer_strides = strides if number == (1 if len(sizes) == 3 else 0) else 1
            scale = 0.0 if zero_init and last else 1.0
            self.layers.append(ConvNorm(inner, out, size=size, strides=layer_strides, scale_init=scale, **common))
            inner = out
        changes = strides != 1 or inner != channels
        self.projection = (
            ConvNorm(channels, inner, size=1, strides=strides, **common) if shortcut == "B" and changes else None
        )
        self.strides, self.extra = strides, inner - channels

    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch _height _width outputs"]:
        y = x
        for number, layer in enumerate(self.layers):
            y = layer(y if not number else jax.nn.relu(y), train=train)
        if self.projection is not None:
            x = self.projection(x, train=train)
        elif self.strides != 1 or self.extra:
            x = x[:, :: self.strides, :: self.strides]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.extra // 2, self.extra - self.extra // 2)))
        return jax.nn.relu(x + y)
