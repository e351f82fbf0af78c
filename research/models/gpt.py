"""The decoder-only language model GPT-2 (Radford et al. 2019), over packed documents; also as an encoder."""

import math

import jax.numpy as jnp
from flax import nnx

from research.errors import UserError
from research.layers.attention import causal_mask, segment_mask
from research.layers.transformer import Block


class GPT(nnx.Module):
    """tokens int [B, T] -> logits [B, T, vocabulary] of each next token.

    `segments` int [B, T] number the documents packed into a row (0 is padding): a token attends to earlier tokens of
    its own segment only. `positions` int [B, T] count within the document; without them they count within the row.
    The output layer is the embedding's transpose. The defaults are GPT-2 small, 124.4 M parameters.

    `mask(length)` says who attends to whom by place alone. With `full_mask` a token sees both sides and the logits
    are those of the token itself: an encoder for masked language modelling (BERT, with the norms before the layers).

    Raises UserError where a row is longer than `length`.
    """

    def __init__(
        self, *, vocabulary=50_257, length=1024, width=768, depth=12, heads=12, dropout=0.0, mask=causal_mask,
        dtype=None, rngs: nnx.Rngs,
    ):  # fmt: skip
        normal = nnx.initializers.normal
        self.embed = nnx.Embed(vocabulary, width, embedding_init=normal(0.02), dtype=dtype, rngs=rngs)
        self.place = nnx.Embed(length, width, embedding_init=normal(0.01), dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        # 2 * depth layers write into the residual stream: scaled so that their sum does not grow with depth.
        out = normal(0.02 / math.sqrt(2 * depth))
        self.blocks = nnx.List(
            Block(
                width, heads=heads, dropout=dropout, epsilon=1e-5, kernel_init=normal(0.02), out_init=out, dtype=dtype,
                rngs=rngs,
            )
            for _ in range(depth)
        )  # fmt: skip
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.length, self.mask = length, mask

    def __call__(self, tokens, segments=None, positions=None, *, train: bool, rngs=None):
        if tokens.shape[1] > self.length:
            raise UserError(f"rows of {tokens.shape[1]} tokens are longer than the model's length of {self.length}.")
        positions = jnp.arange(tokens.shape[1]) if positions is None else positions
        x = self.embed(tokens.astype(jnp.int32)) + self.place(positions.astype(jnp.int32))
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        mask = self.mask(tokens.shape[1])
        if segments is not None:
            mask = mask & segment_mask(segments)
        for block in self.blocks:
            x = block(x, mask=mask, train=train, rngs=rngs)
        return self.embed.attend(self.norm(x))
