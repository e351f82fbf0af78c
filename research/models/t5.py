"""T5, an encoder-decoder transformer with a relative position bias (Raffel et al. 2020, arXiv:1910.10683)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float, Int, Integer
from research.core import Tree
from research.distributed.sharding import BATCH_AXES, constrain
from research.errors import UserError
from research.layers.activations import gelu_tanh
from research.layers.attention import causal_mask, full_mask, padding_mask
from research.layers.cache import Cache, CachePlan, NewCache, plan_cache
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


class T5Cache(NamedTuple):
    """The state of a T5 between two decoded tokens. The batch is the first axis of every array.

    `layers` are the caches of the decoder's blocks, `memory` the keys and values that they compute from the source.
    `source` has the segments of the source, 0 for padding. `lengths` counts the tokens of each row.
    """

    layers: tuple[Cache, ...]
    memory: tuple[Cache, ...]
    source: Integer[Array, "batch keys"]
    lengths: Int[Array, " batch"]


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

    With a `cache`, the tokens continue those in it, and the result is (logits, T5Cache): a NewCache for the first
    tokens, and after them the cache of the previous call, without a source. Segments are then 1, and 0 for padding on
    the right. Raises UserError for a cache with stacked blocks.
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
        source: Integer[Array, "batch keys"] | None,
        tokens: Integer[Array, "batch time"],
        source_segments: Integer[Array, "batch keys"] | None = None,
        segments: Integer[Array, "batch time"] | None = None,
        cache: Tree = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"] | tuple[Float[Array, "batch time vocabulary"], T5Cache]:
        if isinstance(cache, NewCache):
            cache = self.start(source, source_segments, tokens=cache.tokens)
        if cache is not None:
            return self.resume(tokens, segments, cache)
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
        return self.logits(self.decoder(x, mask=mask, memory=memory, memory_mask=memory_mask, train=train, rngs=rngs))

    def start(
        self,
        source: Integer[Array, "batch keys"],
        source_segments: Integer[Array, "batch keys"] | None,
        *,
        tokens: int,
    ) -> T5Cache:
        """Encode the source, and return the cache for rows of up to `tokens` tokens, which has none yet."""
        if not isinstance(self.decoder.blocks, nnx.List):
            raise UserError("a T5 with stacked blocks has no cache; build it without stack=.")
        memory = self.encode(source, source_segments, train=False)
        segments = jnp.ones(source.shape, jnp.int32) if source_segments is None else source_segments
        memories = tuple(block.cross_attention.remembered(memory) for block in self.decoder.blocks)
        empty = lambda x: jnp.zeros_like(x, shape=(*x.shape[:2], tokens, x.shape[3]))
        return T5Cache(jax.tree.map(empty, memories), memories, segments, jnp.zeros(len(source), jnp.int32))

    def resume(
        self, tokens: Integer[Array, "batch time"], segments: Integer[Array, "batch time"] | None, cache: T5Cache
    ) -> tuple[Float[Array, "batch time vocabulary"], T5Cache]:
        """Return the logits after each of the next tokens, and the cache with them."""
        counts = jnp.full(len(tokens), tokens.shape[1]) if segments is None else (segments > 0).sum(1)
        positions = cache.lengths[:, None] + jnp.arange(tokens.shape[1])
        places = cache.layers[0].k.shape[2]
        plan = plan_cache(positions, counts=counts, places=places, window=None, new=False)
        options = dict(memory=cache.memory, memory_mask=padding_mask(cache.source), positions=positions)
        x, layers = self.decoder.resume(embed_tokens(self.embed, tokens), cache.layers, plan=plan, **options)
        return self.logits(x), T5Cache(layers, cache.memory, cache.source, cache.lengths + counts)

    def logits(self, x: Float[Array, "batch time features"]) -> Float[Array, "batch time vocabulary"]:
        """Return the logits of the decoder's outputs."""
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
        places = jnp.arange(x.shape[1])[None]
        x = apply_blocks(self.blocks, drop(x), bias=self.bias(places, places), train=train, rngs=rngs, **options)
        return drop(self.norm(x))

    def resume(
        self, x: Float[Array, "batch time features"], layers: tuple[Cache, ...], *, memory: tuple[Cache, ...],
        memory_mask: Bool[Array, "batch 1 1 memory_time"], positions: Integer[Array, "batch time"], plan: CachePlan,
    ) -> tuple[Float[Array, "batch time features"], tuple[Cache, ...]]:  # fmt: skip
        """Apply the blocks of a decoder to the next tokens of each row, in evaluation mode; return the new caches."""
        options = dict(mask=plan.mask, sources=plan.sources, bias=self.bias(positions, plan.keys), train=False)
        after = []
        for block, own, encoded in zip(self.blocks, layers, memory, strict=True):
            x, own = block(x, cache=own, memory=encoded, memory_mask=memory_mask, **options)
            after.append(own)
        return self.norm(x), tuple(after)
