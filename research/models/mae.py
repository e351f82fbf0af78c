"""The networks of a masked autoencoder: a ViT over the visible patches and a smaller decoder (He et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Int, Key, Num
from research.core import Model, Tree
from research.errors import UserError
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear
from research.layers.positions import sincos2d
from research.layers.transformer import Block
from research.models.vit import patches


class PatchEncoder(nnx.Module):
    """A ViT that encodes the visible patches of `size` x `size` images; `kept` holds the indices of these patches.

    Without `kept` it encodes all patches, in order. It never reads the hidden patches. Positions are fixed sines and
    cosines. There is no class token: average the tokens instead (see `mean_pool`).

    Raises UserError if the size is not a multiple of the patch.
    """

    def __init__(
        self, *, size=224, patch=16, channels=3, width=768, depth=12, heads=12, rngs: nnx.Rngs
    ):  # fmt: skip
        if size % patch:
            raise UserError(f"patches of {patch} pixels do not tile an image of {size}; use a multiple of {patch}.")
        xavier = nnx.initializers.xavier_uniform()
        self.embed = Linear(patch * patch * channels, width, kernel_init=xavier, rngs=rngs)
        self.blocks = _blocks(depth, width, heads=heads, rngs=rngs)
        self.norm = LayerNorm(width)
        self.patch, self.grid, self.width = patch, size // patch, width

    def __call__(
        self,
        images: Num[Array, "batch height width channels"],
        kept: Int[Array, "batch visible"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch visible features"]:
        x, positions = patches(images, self.patch), sincos2d(self.grid, self.width)
        if kept is None:
            x = self.embed(x) + positions.astype(x.dtype)
        else:
            # Selecting patches first avoids embedding the hidden patches.
            x = self.embed(jnp.take_along_axis(x, kept[..., None], 1)) + positions[kept].astype(x.dtype)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return self.norm(x)


class PatchDecoder(nnx.Module):
    """A transformer that predicts the pixels of all patches from the tokens of the visible patches, indexed by `kept`.

    A patch has patch * patch * channels pixels. Each token returns to its position; a learned token fills the others.
    """

    def __init__(
        self, *, size=224, patch=16, channels=3, inputs=768, width=512, depth=8, heads=16, rngs: nnx.Rngs
    ):  # fmt: skip
        xavier = nnx.initializers.xavier_uniform()
        self.embed = Linear(inputs, width, kernel_init=xavier, rngs=rngs)
        self.hidden = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (width,)))
        self.blocks = _blocks(depth, width, heads=heads, rngs=rngs)
        self.norm = LayerNorm(width)
        self.head = Linear(width, patch * patch * channels, kernel_init=xavier, rngs=rngs)
        self.grid, self.width = size // patch, width

    def __call__(
        self,
        tokens: Float[Array, "batch visible features"],
        kept: Int[Array, "batch visible"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch patches pixels"]:
        x = scatter_tokens(self.embed(tokens), kept, count=self.grid**2, fill=self.hidden[...])
        x = x + sincos2d(self.grid, self.width).astype(x.dtype)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return self.head(self.norm(x))


def scatter_tokens(
    tokens: Float[Array, "batch visible features"],
    kept: Int[Array, "batch visible"],
    *,
    count: int,
    fill: Float[Array, " features"],
) -> Float[Array, "batch {count} features"]:
    """Place `tokens` at the positions `kept`, and `fill` at all other positions."""
    empty = jnp.broadcast_to(fill.astype(tokens.dtype), (count, tokens.shape[-1]))
    return jax.vmap(lambda rows, positions: empty.at[positions].set(rows, unique_indices=True))(tokens, kept)


def mean_pool(model: Model | Callable) -> Callable:
    """Return an `apply` that averages the tokens of a PatchEncoder into one vector per image."""

    def apply(
        params: Tree,
        stats: Tree,
        images: Num[Array, "batch height width channels"],
        *,
        key: Key[Array, ""] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch features"], Tree]:
        tokens, new_stats = getattr(model, "apply", model)(params, stats, images, key=key, train=train)
        return tokens.mean(1), new_stats

    return apply


def _blocks(depth: int, width: int, **options):
    return nnx.List(Block(width, kernel_init=nnx.initializers.xavier_uniform(), **options) for _ in range(depth))
