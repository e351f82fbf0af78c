"""Long short-term memory as a language model (Hochreiter & Schmidhuber 1997; forget gate by Gers et al. 2000)."""

from __future__ import annotations

from flax import nnx

from research.axes import Array, Float, Integer
from research.core import Tree
from research.layers.cache import NewCache
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear
from research.layers.recurrent import LSTMLayer, kept


class LSTM(nnx.Module):
    """A language model that returns the logits of each next token: an embedding, `depth` LSTM layers and a linear head.

    `segments` numbers the documents packed into a row: the state resets at each change. `positions` is accepted, as by
    GPT, but ignored. Dropout applies to the inputs of each layer and of the head (Zaremba et al. 2014). With a `cache`,
    as that of GPT, the tokens continue the earlier ones: it holds the state of each layer. The segment of padding is
    then 0, and no other number is used. The defaults have 1.18 M parameters.
    """

    def __init__(self, *, vocabulary=256, width=256, depth=2, dropout=0.0, rngs: nnx.Rngs):
        self.embed = Embed(vocabulary, width, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.layers = nnx.List(LSTMLayer(width, width, rngs=rngs) for _ in range(depth))
        self.head = Linear(width, vocabulary, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self,
        tokens: Integer[Array, "batch time"],
        segments: Integer[Array, "batch time"] | None = None,
        positions: Integer[Array, "batch time"] | None = None,
        cache: Tree = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"] | tuple[Float[Array, "batch time vocabulary"], Tree]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        x, options = embed_tokens(self.embed, tokens.T), {"keep": kept(segments)}
        if cache is not None:
            options = {"valid": None if segments is None else segments.T > 0}
        states = [None] * len(self.layers) if cache is None or isinstance(cache, NewCache) else cache
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(drop(x), state=state, **options)
            after.append(state)
        logits = self.head(drop(x).swapaxes(0, 1))
        return logits if cache is None else (logits, tuple(after))
