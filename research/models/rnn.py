"""Recurrent networks that classify a sequence, or each of its positions."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from research.axes import Array, Float, Integer
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear
from research.layers.recurrent import LSTMLayer, Recurrent, final_outputs


class RecurrentTagger(nnx.Module):
    """The logits of each position: an embedding, a bidirectional Recurrent and a linear head.

    Graves & Schmidhuber 2005 with the defaults. Token 0 is padding at the end of a row. Dropout applies to the
    embeddings, between the layers and before the head. `layer` is as in `Recurrent`.
    """

    def __init__(
        self, *, vocabulary: int, num_classes: int, embedding: int = 100, width: int = 100, depth: int = 1,
        layer: Callable = LSTMLayer, bidirectional: bool = True, dropout: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.embed = Embed(vocabulary, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.recurrent = Recurrent(
            layer, embedding, width, depth=depth, bidirectional=bidirectional, dropout=dropout, rngs=rngs
        )  # fmt: skip
        self.head = Linear(self.recurrent.outputs, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, tokens: Integer[Array, "batch time"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch time classes"]:
        outputs, _ = self.states(tokens, train=train, rngs=rngs)
        return self.head(self.dropout(outputs, deterministic=not train, rngs=rngs))

    def states(
        self, tokens: Integer[Array, "batch time"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "batch time outputs"], tuple]:
        """Return the outputs of the last recurrent layer, and the final states of all layers."""
        x = self.dropout(embed_tokens(self.embed, tokens), deterministic=not train, rngs=rngs)
        return self.recurrent(x, lengths=(tokens != 0).sum(-1), train=train, rngs=rngs)


class RecurrentClassifier(nnx.Module):
    """The logits of a sequence: a linear head on the last output of each direction of a RecurrentTagger's network.

    The options are those of `RecurrentTagger`.
    """

    def __init__(self, *, rngs: nnx.Rngs, **options):
        self.tagger = RecurrentTagger(rngs=rngs, **options)

    def __call__(
        self, tokens: Integer[Array, "batch time"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        _, state = self.tagger.states(tokens, train=train, rngs=rngs)
        last = self.tagger.dropout(final_outputs(state), deterministic=not train, rngs=rngs)
        return self.tagger.head(last)
