"""The hierarchical attention network, a classifier of documents that consist of sentences (Yang et al. 2016)."""

from __future__ import annotations

from flax import nnx

from research.axes import Array, Float, Integer
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear
from research.layers.recurrent import GRULayer, Recurrent
from research.layers.vector_attention import AttentionPooling


class HierarchicalAttention(nnx.Module):
    """Encode the words of each sentence and then the sentences, each by a bidirectional GRU and attention pooling.

    Token 0 is padding: at the end of a sentence, and in whole sentences at the end of a document. A document of padding
    has the vector 0. The defaults are the paper's sizes, without the vocabulary and the classes.
    """

    def __init__(
        self, *, vocabulary: int, num_classes: int, embedding: int = 200, width: int = 50, dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        self.embed = Embed(vocabulary, embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.words = Recurrent(GRULayer, embedding, width, bidirectional=True, rngs=rngs)
        self.word_attention = AttentionPooling(2 * width, 2 * width, rngs=rngs)
        self.sentences = Recurrent(GRULayer, 2 * width, width, bidirectional=True, rngs=rngs)
        self.sentence_attention = AttentionPooling(2 * width, 2 * width, rngs=rngs)
        self.head = Linear(2 * width, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, tokens: Integer[Array, "batch instances time"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        batch, sentences, _ = tokens.shape
        real = tokens != 0
        words = tokens.reshape(batch * sentences, -1)
        x, _ = self.words(drop(embed_tokens(self.embed, words)), lengths=(words != 0).sum(-1), train=train)
        vectors = self.word_attention(x, words != 0).reshape(batch, sentences, -1)
        x, _ = self.sentences(drop(vectors), lengths=real.any(-1).sum(-1), train=train)
        return self.head(drop(self.sentence_attention(x, real.any(-1))))
