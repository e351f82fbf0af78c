"""A tagger of words: embeddings, features of the characters and a bidirectional LSTM (Ma & Hovy 2016)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.core import Trained
from research.fields import field
from research.layers.crf import CRF, Chain, viterbi
from research.layers.embedding import Embed
from research.layers.linear import Linear
from research.layers.recurrent import LSTMLayer, Recurrent

INPUTS = ("words", "characters", "segments")


class WordEncoder(nnx.Module):
    """Vectors of words in their sentence: the outputs of a bidirectional LSTM, `outputs` = 2 `hidden` features.

    Its input is the embedding of the word and, if `alphabet` > 0, features of its characters: the maximum over the word
    of each filter of a convolution over three characters. Character 0 is padding. `segments` numbers the
    sentences of a row: the state of the LSTM resets at each change.
    """

    def __init__(
        self, *, vocabulary: int, alphabet: int, width: int = 64, filters: int = 64, hidden: int = 128, depth: int = 1,
        dropout: float = 0.3, rngs: nnx.Rngs,
    ):  # fmt: skip
        normal = nnx.initializers.normal(0.1)
        self.words = Embed(vocabulary, width, embedding_init=normal, rngs=rngs)
        self.characters = (
            Embed(alphabet, 24, embedding_init=nnx.initializers.normal(0.5), rngs=rngs) if alphabet else None
        )
        self.filters = Linear(3 * 24, filters, rngs=rngs) if alphabet else None
        features = width + filters * bool(alphabet)
        self.lstm = Recurrent(LSTMLayer, features, hidden, depth=depth, bidirectional=True, dropout=dropout, rngs=rngs)
        self.outputs, self.dropout = self.lstm.outputs, nnx.Dropout(dropout)

    def __call__(
        self,
        words: Integer[Array, "batch time"],
        characters: Integer[Array, "batch time _"],
        segments: Integer[Array, "batch time"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time features"]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        x = self.words(words)
        if self.characters is not None:
            x = jnp.concatenate([x, self.spelling(characters)], -1)
        return drop(self.lstm(drop(x), segments=segments, train=train, rngs=rngs)[0])

    def spelling(self, characters: Integer[Array, "batch time _"]) -> Float[Array, "batch time features"]:
        """Return the features of the characters of each word."""
        letters = self.characters(characters) * (characters > 0)[..., None]
        # Windows of three as one matrix product: it is faster on CPU than a convolution over so few channels.
        padded = jnp.pad(letters, ((0, 0), (0, 0), (1, 1), (0, 0)))
        windows = jnp.concatenate([padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]], -1)
        return (jax.nn.relu(self.filters(windows)) * (characters > 0)[..., None]).max(2)


class Tagger(nnx.Module):
    """A WordEncoder with a linear layer that returns the logits of the tags, or a Chain with `crf`.

    Without a CRF, each word's tag is independent of the others given the encoder.
    """

    def __init__(self, *, tags: int, crf: bool = False, rngs: nnx.Rngs, **encoder):
        self.encoder = WordEncoder(rngs=rngs, **encoder)
        self.head = Linear(self.encoder.outputs, tags, rngs=rngs)
        self.crf = CRF(tags, rngs=rngs) if crf else None

    def __call__(
        self,
        words: Integer[Array, "batch time"],
        characters: Integer[Array, "batch time _"],
        segments: Integer[Array, "batch time"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time classes"] | Chain:
        logits = self.head(self.encoder(words, characters, segments, train=train, rngs=rngs))
        return logits if self.crf is None else self.crf(logits)


def predict_tags(trained: Trained, batch) -> Integer[Array, "batch time"]:
    """Return the predicted tags of a batch of "words", "characters" and "segments": the `decode` of `measure_tags`."""
    inputs = [field(batch, name) for name in INPUTS]
    outputs = trained(*inputs)
    return viterbi(outputs, segments=inputs[-1]) if isinstance(outputs, Chain) else outputs.argmax(-1)
