"""ELMo: words from characters, and two language models, one in each direction (Peters et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.layers.convolution import Conv
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear
from research.layers.recurrent import LSTMLayer, kept

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


class CharacterEncoder(nnx.Module):
    """Return a vector for each word: convolutions over its characters, the maximum of each, highways, a projection.

    Kim et al. 2016. `filters` are (width, number) of the convolutions. A highway is g x + (1 - g) relu(x A + a), with
    g = sigmoid(x B + b), whose bias b starts at 1 (Srivastava et al. 2015: thus a new highway passes x on). Words need
    at least as many characters as the widest filter, padding included.
    """

    def __init__(
        self, *, characters: int = 262, embedding: int = 16, filters: Sequence[tuple[int, int]] = FILTERS,
        highways: int = 2, width: int = 512, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.embed = Embed(characters, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.filters = nnx.List(Conv(embedding, n, (size,), padding="VALID", rngs=rngs) for size, n in filters)
        total = sum(n for _, n in filters)
        self.highways = nnx.List(Linear(total, total, rngs=rngs) for _ in range(highways))
        ones = nnx.initializers.ones
        self.gates = nnx.List(Linear(total, total, bias_init=ones, rngs=rngs) for _ in range(highways))
        self.project = Linear(total, width, rngs=rngs)

    def __call__(self, words: Integer[Array, "batch time characters"]) -> Float[Array, "batch time features"]:
        x = embed_tokens(self.embed, words.reshape(-1, words.shape[-1]))
        x = jax.nn.relu(jnp.concatenate([layer(x).max(1) for layer in self.filters], -1))
        for layer, gate in zip(self.highways, self.gates, strict=True):
            keep = jax.nn.sigmoid(gate(x))
            x = keep * x + (1 - keep) * jax.nn.relu(layer(x))
        return self.project(x).reshape(*words.shape[:2], -1)


class Directions(NamedTuple):
    """What both language models return at each position, from the text before it and from the text after it."""

    forward: Float[Array, "..."]
    backward: Float[Array, "..."]


class ELMo(nnx.Module):
    """A bidirectional language model: the logits of the next word and of the previous one, as Directions.

    A CharacterEncoder is followed by `depth` projected LSTMs in each direction. All but the first of them add their
    input to their output. Both directions share the encoder and the output layer. `segments` numbers the documents
    packed into a row. Without the output layer, the defaults have the 93.6 M parameters that the authors publish.

    `layers(words, segments)` returns the vectors of all layers for another network, see `ScalarMix`.
    """

    def __init__(
        self, *, vocabulary: int, width: int = 512, cells: int = 4096, depth: int = 2, dropout: float = 0.0,
        characters: int = 262, embedding: int = 16, filters: Sequence[tuple[int, int]] = FILTERS, highways: int = 2,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        self.encoder = CharacterEncoder(
            characters=characters, embedding=embedding, filters=filters, highways=highways, width=width, rngs=rngs
        )
        stack = lambda: nnx.List(LSTMLayer(width, cells, projection=width, rngs=rngs) for _ in range(depth))
        self.forward, self.backward = stack(), stack()
        self.head = Linear(width, vocabulary, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self,
        words: Integer[Array, "batch time characters"],
        segments: Integer[Array, "batch time"] | None = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Directions:
        forward, backward = self._directions(words, segments, train=train, rngs=rngs)
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        return Directions(*(self.head(drop(x[-1])).swapaxes(0, 1) for x in (forward, backward)))

    def layers(
        self, words: Integer[Array, "batch time characters"], segments: Integer[Array, "batch time"] | None = None
    ) -> Float[Array, "layers batch time features"]:
        """Return the vector of each word in each layer, [forward, backward]; layer 0 is the encoder's, twice."""
        both = self._directions(words, segments, train=False, rngs=None)
        return jnp.stack([jnp.concatenate(layer, -1).swapaxes(0, 1) for layer in zip(*both, strict=True)])

    def _directions(self, words, segments, *, train, rngs):
        start, found = self.encoder(words).swapaxes(0, 1), []
        for stack, reverse in ((self.forward, False), (self.backward, True)):
            x, vectors = start, [start]
            for i, layer in enumerate(stack):
                y = self.dropout(x, deterministic=not train, rngs=rngs)
                y, _ = layer(y, keep=kept(segments, reverse=reverse), reverse=reverse)
                x = x + y if i else y
                vectors.append(x)
            found.append(vectors)
        return found


class ScalarMix(nnx.Module):
    """The weighted mean of the layers of a network, gamma sum_j softmax(s)_j x_j (Peters et al. 2018, equation 1).

    It starts as the plain mean.
    """

    def __init__(self, layers: int):
        self.weights = nnx.Param(jnp.zeros(layers))
        self.gamma = nnx.Param(jnp.ones(()))

    def __call__(self, x: Float[Array, "layers *batch features"]) -> Float[Array, "*batch features"]:
        return self.gamma[...] * jnp.tensordot(jax.nn.softmax(self.weights[...]), x, 1)
