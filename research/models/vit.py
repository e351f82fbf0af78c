"""The Vision Transformer (Dosovitskiy et al. 2021), with the options of its plain baselines (Beyer et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Num
from research.errors import UserError
from research.layers.activations import gelu_tanh
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear
from research.layers.positions import sincos2d
from research.layers.transformer import Block

TI = {"width": 192, "depth": 12, "heads": 3}
S = {"width": 384, "depth": 12, "heads": 6}
B = {"width": 768, "depth": 12, "heads": 12}


class ViT(nnx.Module):
    """A Vision Transformer for images of `size` x `size` pixels; returns logits.

    `positions` is "learned" or "sincos2d" (fixed). `pool` is "cls" (a class token) or "gap" (the mean of the patches).
    `representation` adds a tanh layer of that width before the head. The head starts at zero. `positions="learned",
    pool="cls"` is the paper of 2021: ViT-S/16 has 22.05 M parameters, ViT-B/16 86.57 M. Public checkpoints use
    `activation=gelu`; `epsilon` is that of the norms.

    Raises UserError if the size is not a multiple of the patch, and for unknown positions or pooling.
    """

    def __init__(
        self, *, size=224, patch=16, channels=3, width=384, depth=12, heads=6, num_classes=1000, positions="learned",
        pool="cls", representation=None, activation: Callable = gelu_tanh, epsilon=1e-6, dropout=0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        if size % patch:
            raise UserError(f"patches of {patch} pixels do not tile an image of {size}; use a multiple of {patch}.")
        if positions not in ("learned", "sincos2d") or pool not in ("cls", "gap"):
            raise UserError(
                f"positions={positions!r}, pool={pool!r}; expected 'learned' or 'sincos2d', and 'cls' or 'gap'."
            )
        grid = size // patch
        count = grid * grid + (pool == "cls")
        xavier = nnx.initializers.xavier_uniform()
        lecun = nnx.initializers.lecun_normal()
        self.embed = Linear(patch * patch * channels, width, kernel_init=lecun, rngs=rngs)
        normal = nnx.initializers.normal(1 / math.sqrt(width))
        self.positions = nnx.Param(normal(rngs.params(), (count, width))) if positions == "learned" else None
        self.cls = nnx.Param(jnp.zeros(width)) if pool == "cls" else None
        self.dropout = nnx.Dropout(dropout)
        self.blocks = nnx.List(
            Block(
                width,
                heads=heads,
                feed_forward={"activation": activation},
                dropout=dropout,
                epsilon=epsilon,
                kernel_init=xavier,
                rngs=rngs,
            )
            for _ in range(depth)
        )
        self.norm = LayerNorm(width, epsilon=epsilon)
        hidden = Linear(width, representation, rngs=rngs) if representation else None
        self.representation = hidden
        zeros = nnx.initializers.zeros_init()
        self.head = Linear(representation or width, num_classes, kernel_init=zeros, rngs=rngs)
        self.patch, self.grid, self.width = patch, grid, width

    def __call__(
        self, x: Num[Array, "batch height width channels"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        x = self.embed(patches(x, self.patch))
        if self.positions is None:
            x = x + sincos2d(self.grid, self.width).astype(x.dtype)
        if self.cls is not None:
            x = jnp.concatenate([jnp.broadcast_to(self.cls[...], (len(x), 1, self.width)).astype(x.dtype), x], 1)
        if self.positions is not None:
            x = x + self.positions[...].astype(x.dtype)
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        x = self.norm(x)
        x = x.mean(1) if self.cls is None else x[:, 0]
        if self.representation is not None:
            x = jnp.tanh(self.representation(x))
        return self.head(x)


def patches(
    images: Num[Array, "batch height width channels"], size: int
) -> Num[Array, "batch (height//{size})*(width//{size}) {size}*{size}*channels"]:
    """Cut images into square patches, row by row.

    A linear layer on the patches equals a convolution of that kernel size and stride, but is one matrix product.
    """
    b, h, w, c = images.shape
    cut = images.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return cut.reshape(b, (h // size) * (w // size), size * size * c)
