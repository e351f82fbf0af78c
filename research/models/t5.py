"""T5, an encoder-decoder transformer with a relative position bias (Raffel et al. 2020, arXiv:1910.10683)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.distributed.sharding import BATCH_AXES, constrain
from research.layers.activations import gelu_tanh
from research.layers.attention import causal_mask, full_mask, padding_mask
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear, flatten_leading_axes
from research.layers.relative_bias import RelativeBias
from research.layers.rms_norm import RMSNorm
from research.layers.transformer import Block
from research.models.decoder import apply_blocks, packed_mask

SMALL = {}
BASE = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072}
LARGE = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}
# T5 1.1, mT5's and Flan-T5's architecture: a gated GELU, and an output layer of its own.
V11 = {"activation": gelu_tanh, "gated": True, "tied": False}
SMALL_V11 = {**V11, "depth": 8, "heads": 6, "hidden": 1024}
BASE_V11 = {**V11, "width": 768, "depth": 12, "heads": 12}


class T5(nnx.Module):
    """An encoder of a source sequence, and a decoder that returns the logits of each next token.

    The defaults are T5 small, 60.5 M parameters; the constants of this file are other members of the family. The first
    token for the decoder is the padding token, 0. Scores of attention are not scaled: the initialisation of `q` does
    that. All layers of the encoder share one relative position bias, and so do those of the decoder; attention to the
    source has none.

    Segments number the documents packed into a row (0 is padding). A token attends only within its own segment, and to
    the source of that segment. If only `source_segments` are given, it attends to the whole source but its padding.

    With `tied`, the output layer is the transposed embedding. With `scaled`, by default if `tied`, the input of the
    output layer is divided by sqrt(width). `stack` is that of `models.gpt.GPT`. The sharding rules are
    `models.llama.rules(tied=...)`.
    """

    def __init__(
        self, *, vocabulary: int = 32_128, width: int = 512, depth: int = 6, decoder_depth: int | None = None,
        heads: int = 8, head_width: int = 64, hidden: int = 2048, activation: Callable = jax.nn.relu,
        gated: bool = False, tied: bool = True, scaled: bool | None = None, buckets: int = 32, max_distance: int = 128,
        epsilon: float = 1e-6, dropout: float = 0.0, stack: Callable | None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        normal = nnx.initializers.normal
        fan_in = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        attention = dict(
            head_width=head_width, use_bias=False, scale=1.0, dropout=dropout,
            q_init=normal((width * head_width) ** -0.5),
        )  # fmt: skip
        feed_forward = dict(activation=activation, gated=gated, use_bias=False, dropout=dropout)
        options = dict(
            heads=heads, hidden=hidden, attention=attention, feed_forward=feed_forward, norm=RMSNorm, epsilon=epsilon,
            dropout=dropout, kernel_init=fan_in, rngs=rngs,
        )  # fmt: skip
        bias = dict(number=buckets, max_distance=max_distance, embedding_init=normal(width**-0.5), rngs=rngs)

        def blocks(depth, *, bidirectional, **cross):
            build = lambda: Block(width, **options, **cross)
            return BiasedBlocks(
                stack(build, depth) if stack else nnx.List(build() for _ in range(depth)),
                bias=RelativeBias(heads, bidirectional=bidirectional, **bias), norm=RMSNorm(width, epsilon=epsilon),
                dropout=dropout,
            )  # fmt: skip

        self.embed = Embed(vocabulary, width, embedding_init=normal(1.0), rngs=rngs)
        self.encoder = blocks(depth, bidirectional=True)
        self.decoder = blocks(decoder_depth or depth, bidirectional=False, cross_attention=attention)
        self.scale = width**-0.5 if (tied if scaled is None else scaled) else 1.0
        self.head = None if tied else Linear(width, vocabulary, use_bias=False, kernel_init=fan_in, rngs=rngs)

    def __call__(
        self,
        source: Integer[Array, "batch keys"],
        tokens: Integer[Array, "batch time"],
        source_segments: Integer[Array, "batch keys"] | None = None,
        segments: Integer[Array, "batch time"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"]:
        memory = self.encode(source, source_segments, train=train, rngs=rngs)
        return self.decode(tokens, memory, source_segments, segments, train=train, rngs=rngs)

    def encode(
        self,
        source: Integer[Array, "batch keys"],
        source_segments: Integer[Array, "batch keys"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch keys features"]:
        """Return the vectors of the source, which `decode` reads."""
        x = constrain(embed_tokens(self.embed, source), BATCH_AXES)
        mask = packed_mask(full_mask, source_segments, length=source.shape[1])
        return self.encoder(x, mask=mask, train=train, rngs=rngs)

    def decode(
        self,
        tokens: Integer[Array, "batch time"],
        memory: Float[Array, "batch keys features"],
        source_segments: Integer[Array, "batch keys"] | None = None,
        segments: Integer[Array, "batch time"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"]:
        """Return the logits of each next token, given the encoded source."""
        x = constrain(embed_tokens(self.embed, tokens), BATCH_AXES)
        memory_mask = None if source_segments is None else padding_mask(source_segments)
        if segments is not None and source_segments is not None:
            memory_mask = (segments[:, :, None] == source_segments[:, None])[:, None]
        mask = packed_mask(causal_mask, segments, length=tokens.shape[1])
        x = self.decoder(x, mask=mask, memory=memory, memory_mask=memory_mask, train=train, rngs=rngs)
        x = x * self.scale
        return flatten_leading_axes(self.embed.attend, x) if self.head is None else self.head(x)


class BiasedBlocks(nnx.Module):
    """Transformer blocks that share a relative position bias, with dropout at both ends and a norm after the last."""

    def __init__(self, blocks: nnx.Module, *, bias: RelativeBias, norm: nnx.Module, dropout: float):
        self.blocks, self.bias, self.norm, self.dropout = blocks, bias, norm, nnx.Dropout(dropout)

    def __call__(
        self, x: Float[Array, "batch time features"], *, train: bool, rngs: nnx.Rngs | None = None, **options: object
    ) -> Float[Array, "batch time features"]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        places = jnp.arange(x.shape[1])
        x = apply_blocks(self.blocks, drop(x), bias=self.bias(places, places), train=train, rngs=rngs, **options)
        return drop(self.norm(x))
