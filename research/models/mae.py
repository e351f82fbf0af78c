"""The two halves of a masked autoencoder (He et al. 2022): a ViT over the visible patches, and a smaller decoder."""

import jax
import jax.numpy as jnp
from flax import nnx

from research.errors import UserError
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear
from research.layers.transformer import Block
from research.models.vit import patches, sincos2d


class PatchEncoder(nnx.Module):
    """Images [B, size, size, channels], and which patches to see, int [B, V] -> their tokens [B, V, width].

    Without `kept` it sees all patches, in order. What is not kept is never read. Positions are fixed sines and
    cosines. There is no class token: pool the tokens.

    Raises UserError where the patches do not tile the image.
    """

    def __init__(
        self, *, size=224, patch=16, channels=3, width=768, depth=12, heads=12, rngs: nnx.Rngs
    ):  # fmt: skip
        if size % patch:
            raise UserError(f"patches of {patch} pixels do not tile an image of {size}; take a size of {patch} n.")
        xavier = nnx.initializers.xavier_uniform()
        self.embed = Linear(patch * patch * channels, width, kernel_init=xavier, rngs=rngs)
        self.blocks = _blocks(depth, width, heads=heads, rngs=rngs)
        self.norm = LayerNorm(width)
        self.patch, self.grid, self.width = patch, size // patch, width

    def __call__(self, images, kept=None, *, train: bool, rngs=None):
        x, places = patches(images, self.patch), sincos2d(self.grid, self.width)
        if kept is None:
            x = self.embed(x) + places.astype(x.dtype)
        else:
            # The patches are chosen first, so that the embedding too is computed for these alone.
            x = self.embed(jnp.take_along_axis(x, kept[..., None], 1)) + places[kept].astype(x.dtype)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return self.norm(x)


class PatchDecoder(nnx.Module):
    """Tokens [B, V, inputs] of the patches `kept`, int [B, V] -> the pixels of all, [B, (size / patch)^2, P].

    P is patch * patch * channels. Each token goes back to its place; a learned token stands in the others.
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

    def __call__(self, tokens, kept, *, train: bool, rngs=None):
        x = restored(self.embed(tokens), kept, count=self.grid**2, fill=self.hidden[...])
        x = x + sincos2d(self.grid, self.width).astype(x.dtype)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return self.head(self.norm(x))


def restored(tokens, kept, *, count: int, fill):
    """[B, count, D] with `tokens` [B, V, D] at the places `kept`, int [B, V], and `fill` [D] at all others."""
    empty = jnp.broadcast_to(fill.astype(tokens.dtype), (count, tokens.shape[-1]))
    return jax.vmap(lambda rows, places: empty.at[places].set(rows, unique_indices=True))(tokens, kept)


def pooled(model):
    """The `apply` of a PatchEncoder that gives one vector an image, the mean of all its tokens: -> [B, width]."""

    def apply(params, stats, images, *, key=None, train=False):
        tokens, changed = getattr(model, "apply", model)(params, stats, images, key=key, train=train)
        return tokens.mean(1), changed

    return apply


def _blocks(depth, width, **options):
    return nnx.List(Block(width, kernel_init=nnx.initializers.xavier_uniform(), **options) for _ in range(depth))
