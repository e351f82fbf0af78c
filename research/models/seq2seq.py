"""Recurrent encoder-decoders: with attention, Bahdanau et al. 2015 and Luong et al. 2015, and without.

All are called as model(source, tokens, source_segments=None, segments=None, cache=None), as a T5. Segments are 1, and 0
for padding at the end of a row.

    training    model(source, tokens, source_segments): the logits of the token that follows each, given those before it
    decoding    logits, cache = model(source, first_tokens, source_segments, segments, NewCache(count))
                logits, cache = model(None, next_tokens, None, None, cache)

Every array of a cache has the batch as its first axis. It holds the encoded source; it does not change at padding.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float, Integer
from research.core import Tree, repeat
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear
from research.layers.recurrent import GRULayer, LSTMLayer, Recurrent
from research.layers.vector_attention import AdditiveAttention, MultiplicativeAttention


class AdditiveSeq2Seq(nnx.Module):
    """A bidirectional GRU encoder, and a GRU decoder that attends before each step (Bahdanau et al. 2015, RNNsearch).

        c = attention(s);  s = GRU([E y; c], s);  logits = V dropout(maxout([s; E y; c]))

    s starts as tanh(W h), h the last output of the encoder's backward direction. The output layer takes s after the
    step, as equation 4 of the paper. The defaults are the paper's RNNsearch-50 with the GRU of `GRULayer`, 80.5 M
    parameters. `depth` is that of the encoder. Dropout applies to embeddings, between layers and before the output.
    """

    def __init__(
        self, *, source_vocabulary: int = 30_000, vocabulary: int = 30_000, embedding: int = 620, width: int = 1000,
        maxout: int = 500, depth: int = 1, dropout: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.source_embed = Embed(source_vocabulary, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.encoder = Recurrent(
            GRULayer, embedding, width, depth=depth, bidirectional=True, dropout=dropout, rngs=rngs
        )  # fmt: skip
        self.start = Linear(width, width, rngs=rngs)
        self.embed = Embed(vocabulary, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.attention = AdditiveAttention(width, 2 * width, width, rngs=rngs)
        self.cell = GRULayer(embedding + 2 * width, width, rngs=rngs)
        self.hidden = Linear(width + embedding + 2 * width, 2 * maxout, rngs=rngs)
        self.head = Linear(maxout, vocabulary, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

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
    ) -> Float[Array, "batch time vocabulary"] | tuple[Float[Array, "batch time vocabulary"], Tree]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        if source is not None:
            x, real = drop(embed_tokens(self.source_embed, source)), real_tokens(source, source_segments)
            values, last = self.encoder(x, lengths=real.sum(-1), train=train, rngs=rngs)
            state = self.attention.memory(values, real), jnp.tanh(self.start(last[-1][1]))
        memory, s = cache if source is None else state
        embedded = drop(embed_tokens(self.embed, tokens.T))

        def step(s, y):
            context = self.attention(s, memory)
            s, _ = self.cell.step(s, self.cell.input(jnp.concatenate([y, context], -1)))
            return s, (s, context)

        s, (after, contexts) = over_tokens(step, s, embedded, segments=segments)
        hidden = self.hidden(jnp.concatenate([after.astype(embedded.dtype), embedded, contexts], -1))
        hidden = hidden.reshape(*hidden.shape[:-1], -1, 2).max(-1)
        logits = self.head(drop(hidden)).swapaxes(0, 1)
        return logits if cache is None else (logits, (memory, s))


class MultiplicativeSeq2Seq(nnx.Module):
    """A stack of LSTMs as encoder and another as decoder, which attends after each step (Luong et al. 2015, "general").

        h = LSTM([E y; a]);  c = attention(h);  a = tanh(W [c; h]);  logits = V a

    The previous a is an input of the step (input feeding, section 3.3). The decoder starts with the final state of the
    encoder. Dropout applies to embeddings, to the outputs of the layers and to a. The defaults are the paper's, 4
    layers of 1000 units and vocabularies of 50,000 words, 221.1 M parameters.
    """

    def __init__(
        self, *, source_vocabulary: int = 50_000, vocabulary: int = 50_000, width: int = 1000, depth: int = 4,
        dropout: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        normal = nnx.initializers.normal
        self.source_embed = Embed(source_vocabulary, width, embedding_init=normal(0.1), rngs=rngs)
        self.encoder = Recurrent(LSTMLayer, width, width, depth=depth, dropout=dropout, rngs=rngs)
        self.embed = Embed(vocabulary, width, embedding_init=normal(0.1), rngs=rngs)
        self.layers = nnx.List(LSTMLayer(width * (1 if i else 2), width, rngs=rngs) for i in range(depth))
        self.attention = MultiplicativeAttention(width, width, rngs=rngs)
        self.combine = Linear(2 * width, width, use_bias=False, rngs=rngs)
        self.head = Linear(width, vocabulary, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

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
    ) -> Float[Array, "batch time vocabulary"] | tuple[Float[Array, "batch time vocabulary"], Tree]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        embedded = drop(embed_tokens(self.embed, tokens.T))
        if source is not None:
            x, real = drop(embed_tokens(self.source_embed, source)), real_tokens(source, source_segments)
            values, last = self.encoder(x, lengths=real.sum(-1), train=train, rngs=rngs)
            nothing = jnp.zeros(embedded.shape[1:], embedded.dtype)
            start = self.attention.memory(values, real), (tuple(layer for (layer,) in last), nothing)
        memory, state = cache if source is None else start
        # Masks of dropout are drawn here, because a module's random stream cannot advance inside the loop.
        masks = [drop(jnp.ones((*tokens.T.shape, self.combine.out_features), embedded.dtype)) for _ in self.layers]

        def step(state, now):
            (layers, attended), (y, masks) = state, now
            x, after = jnp.concatenate([y, attended], -1), []
            for layer, before, mask in zip(self.layers, layers, masks, strict=True):
                last, x = layer.step(before, layer.input(x))
                x = x * mask  # of the next layer's input, or the attention's
                after.append(last)
            attended = jnp.tanh(self.combine(jnp.concatenate([self.attention(x, memory), x], -1)))
            return (tuple(after), attended.astype(y.dtype)), attended

        state, attended = over_tokens(step, state, (embedded, masks), segments=segments)
        logits = self.head(drop(attended)).swapaxes(0, 1)
        return logits if cache is None else (logits, (memory, state))


class PlainSeq2Seq(nnx.Module):
    """A GRU encoder, and a GRU decoder that starts with its final state: no attention (Sutskever et al. 2014).

        s = GRU(E y, s);  logits = V s

    The source is read once, into a vector of `width` numbers. The defaults are the network of the package g2p-en, which
    has 834,890 parameters. Dropout applies to embeddings and before the output.
    """

    def __init__(
        self, *, source_vocabulary: int = 29, vocabulary: int = 74, width: int = 256, dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        normal = nnx.initializers.normal
        self.source_embed = Embed(source_vocabulary, width, embedding_init=normal(0.1), rngs=rngs)
        self.encoder = GRULayer(width, width, rngs=rngs)
        self.embed = Embed(vocabulary, width, embedding_init=normal(0.1), rngs=rngs)
        self.cell = GRULayer(width, width, rngs=rngs)
        self.head = Linear(width, vocabulary, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

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
    ) -> Float[Array, "batch time vocabulary"] | tuple[Float[Array, "batch time vocabulary"], Tree]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        valid = lambda segments: None if segments is None else segments.T > 0
        state = cache
        if source is not None:
            _, state = self.encoder(drop(embed_tokens(self.source_embed, source.T)), valid=valid(source_segments))
        x = drop(embed_tokens(self.embed, tokens.T))
        outputs, state = self.cell(x, state=state, valid=valid(segments))
        logits = self.head(drop(outputs)).swapaxes(0, 1)
        return logits if cache is None else (logits, state)


def real_tokens(
    tokens: Integer[Array, "batch time"], segments: Integer[Array, "batch time"] | None
) -> Bool[Array, "batch time"]:
    """Return which tokens are not padding: all without segments."""
    return jnp.ones(tokens.shape, bool) if segments is None else segments > 0


def over_tokens(
    step: Callable, state: Tree, inputs: Tree, *, segments: Integer[Array, "batch time"] | None
) -> tuple:  # fmt: skip
    """Repeat `step(state, inputs of one time) -> (state, outputs)` over time; padding does not change the state."""

    def kept(state, now):
        x, real = now
        after, outputs = step(state, x)
        return jax.tree.map(lambda new, old: jnp.where(real[:, None], new, old), after, state), outputs

    return repeat(step, state, inputs) if segments is None else repeat(kept, state, (inputs, segments.T > 0))
