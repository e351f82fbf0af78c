"""Bidirectional encoders of text: BERT, RoBERTa, DistilBERT and ALBERT, with heads for pretraining and classification.

Devlin et al. 2019 (arXiv:1810.04805), Liu et al. 2019 (arXiv:1907.11692), Sanh et al. 2019 (arXiv:1910.01108) and Lan
et al. 2020 (arXiv:1909.11942). `research.weights.bert` reads and writes their public checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.distributed.sharding import BATCH_AXES, constrain
from research.errors import UserError
from research.layers.activations import gelu, gelu_tanh
from research.layers.attention import segment_mask
from research.layers.embedding import Embed, embed_tokens
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear, flatten_leading_axes
from research.layers.transformer import Block

# The base sizes. RoBERTa's positions begin at 2, and its table has two rows more than a row of tokens.
BERT_BASE = {"vocabulary": 30_522, "padding": 0}
ROBERTA_BASE = {
    "vocabulary": 50_265, "token_types": 1, "first_position": 2, "length": 514, "epsilon": 1e-5, "padding": 1,
}  # fmt: skip
DISTILBERT_BASE = {"vocabulary": 30_522, "token_types": 0, "depth": 6, "pooler": None, "padding": 0}
ALBERT_BASE = {
    "vocabulary": 30_000, "embedding_width": 128, "shared": True, "activation": gelu_tanh, "padding": 0,
}  # fmt: skip


class Encoded(NamedTuple):
    """The output without a head: a vector per token, and a pooled vector per row (None without a pooler)."""

    states: Float[Array, "batch time features"]
    pooled: Float[Array, "batch features"] | None


class Pretrained(NamedTuple):
    """The output with both heads: logits of the original tokens, and of the class of the row."""

    tokens: Float[Array, "batch time vocabulary"]
    classes: Float[Array, "batch classes"]


class BERT(nnx.Module):
    """A post-LN transformer that attends in both directions. The defaults are BERT-base without a head.

    The embeddings are those of tokens, of positions and, unless `token_types` is 0, of the type of a token (0 for the
    first sentence, 1 for the second). `length` is the number of rows of the position table, and `first_position` the
    row of the first token. With `embedding_width`, the embeddings have another width and a linear layer maps them to
    the width of the blocks. With `shared`, one block is applied `depth` times (ALBERT).

    The pooler is a linear layer with the activation `pooler`, on the first token of a row; None omits it. With
    `masked`, the output is the logits of each token (masked language model, its matrix tied to the embedding). With
    `num_classes`, the output is the logits of a linear layer on the pooled vector, or on the first token. With both,
    the output is Pretrained; with neither, Encoded.

    `segments` numbers the documents packed into a row, and 0 is padding: a token attends only within its own segment.
    Without segments, tokens equal to `padding` are padding. `positions` counts tokens within the document, by default
    within the row; then rows must be padded at their end. `dropout` is the rate after the embeddings, in each block and
    before the classifier, `attention_dropout` that on the attention weights. `stack(build, depth)`, such as
    `layers.stack.Stack`, stores the blocks as one stacked module.

    Raises UserError if a row is longer than the position table allows, or for token types without a table.
    """

    def __init__(
        self, *, vocabulary: int = 30_522, length: int = 512, width: int = 768, depth: int = 12, heads: int = 12,
        hidden: int | None = None, token_types: int = 2, first_position: int = 0, embedding_width: int | None = None,
        shared: bool = False, pooler: Callable | None = jnp.tanh, masked: bool = False, num_classes: int | None = None,
        activation: Callable = gelu, epsilon: float = 1e-12, padding: int | None = None, dropout: float = 0.0,
        attention_dropout: float = 0.0, stack: Callable | None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        init = nnx.initializers.truncated_normal(0.02)
        narrow = embedding_width or width
        self.embed = Embed(vocabulary, narrow, embedding_init=init, rngs=rngs)
        self.place = Embed(length, narrow, embedding_init=init, rngs=rngs)
        self.type = Embed(token_types, narrow, embedding_init=init, rngs=rngs) if token_types else None
        self.embed_norm = LayerNorm(narrow, epsilon=epsilon)
        self.widen = Linear(narrow, width, kernel_init=init, rngs=rngs) if embedding_width else None

        def build():
            return Block(
                width, heads=heads, hidden=hidden, attention={"dropout": attention_dropout},
                feed_forward={"activation": activation}, post_norm=True, dropout=dropout, epsilon=epsilon,
                kernel_init=init, rngs=rngs,
            )  # fmt: skip

        self.blocks = stack(build, depth) if stack else nnx.List(build() for _ in range(1 if shared else depth))
        self.pooler = Linear(width, width, kernel_init=init, rngs=rngs) if pooler else None
        self.masked = MaskedHead(width, narrow, vocabulary, activation, epsilon, init, rngs) if masked else None
        self.classifier = Linear(width, num_classes, kernel_init=init, rngs=rngs) if num_classes else None
        self.dropout, self.pool, self.padding = nnx.Dropout(dropout), pooler, padding
        self.first_position, self.rows = first_position, length - first_position
        self.repeats = depth if shared else 1

    def __call__(
        self,
        tokens: Integer[Array, "batch time"],
        segments: Integer[Array, "batch time"] | None = None,
        positions: Integer[Array, "batch time"] | None = None,
        token_types: Integer[Array, "batch time"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"] | Float[Array, "batch classes"] | Encoded | Pretrained:
        if tokens.shape[1] > self.rows:
            raise UserError(f"rows of {tokens.shape[1]} tokens are longer than the model's length of {self.rows}.")
        if token_types is not None and self.type is None:
            raise UserError("token types were given, but the model has no table of them; set token_types=2.")
        if segments is None and self.padding is not None:
            segments = (tokens != self.padding).astype(jnp.int32)
        positions = jnp.arange(tokens.shape[1]) if positions is None else positions
        x = embed_tokens(self.embed, tokens) + embed_tokens(self.place, positions + self.first_position)
        if self.type is not None:
            x = x + embed_tokens(self.type, jnp.zeros_like(tokens) if token_types is None else token_types)
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        x = constrain(drop(self.embed_norm(x)), BATCH_AXES, "context")
        if self.widen is not None:
            x = self.widen(x)
        mask = None if segments is None else segment_mask(segments)
        blocks = self.blocks if isinstance(self.blocks, nnx.List) else [self.blocks]
        for block in list(blocks) * self.repeats:
            x = block(x, mask=mask, train=train, rngs=rngs)
        pooled = None if self.pooler is None else self.pool(self.pooler(x[:, 0]))
        tokens = None if self.masked is None else self.masked(x, self.embed)
        if self.classifier is None:
            return Encoded(x, pooled) if tokens is None else tokens
        classes = self.classifier(drop(x[:, 0] if pooled is None else pooled))
        return classes if tokens is None else Pretrained(tokens, classes)


class MaskedHead(nnx.Module):
    """The head of the masked language model: norm(activation(dense(x))) times the transposed embedding, plus a bias."""

    def __init__(self, width, narrow, vocabulary, activation, epsilon, init, rngs):
        self.dense = Linear(width, narrow, kernel_init=init, rngs=rngs)
        self.norm = LayerNorm(narrow, epsilon=epsilon)
        self.bias = nnx.Param(jnp.zeros(vocabulary))
        self.activation = activation

    def __call__(
        self, x: Float[Array, "batch time features"], embed: nnx.Embed
    ) -> Float[Array, "batch time vocabulary"]:
        x = self.norm(self.activation(self.dense(x)))
        return flatten_leading_axes(embed.attend, x) + self.bias[...].astype(x.dtype)
