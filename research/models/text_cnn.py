"""Convolutional networks that classify a text."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.layers.convolution import Conv
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear


class TextCNN(nnx.Module):
    """Return the logits of a text: the largest output of each filter over the positions, and a linear layer.

    Kim 2014, "Convolutional Neural Networks for Sentence Classification". There are `filters` filters of each of the
    `widths`, in tokens, followed by ReLU. Token 0 is padding: its vector is zero, and the maximum leaves out the
    windows that are centred on it. `dropped` is the probability that a token is left out in training; dropout applies
    before the linear layer.
    """

    def __init__(
        self, *, vocabulary: int, num_classes: int, embedding: int = 50, filters: int = 100,
        widths: Sequence[int] = (3, 4, 5), dropout: float = 0.5, dropped: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.embed = Embed(vocabulary, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.filters = nnx.List(Conv(embedding, filters, (width,), rngs=rngs) for width in widths)
        self.head = Linear(filters * len(widths), num_classes, rngs=rngs)
        self.dropout, self.dropped = nnx.Dropout(dropout), nnx.Dropout(dropped, broadcast_dims=(2,))

    def __call__(
        self, tokens: Integer[Array, "batch time"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        inside = (tokens != 0)[..., None]
        x = self.dropped(embed_tokens(self.embed, tokens) * inside, deterministic=not train, rngs=rngs)
        # After ReLU nothing is below 0, thus 0 at the padding does not change the maximum.
        found = [(jax.nn.relu(layer(x)) * inside).max(1) for layer in self.filters]
        return self.head(self.dropout(jnp.concatenate(found, -1), deterministic=not train, rngs=rngs))
