"""Tables of vectors for words and for their contexts, which the objectives of word vectors train."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.core import Model, draw


def word_vectors(vocabulary: int, width: int, *, biases: bool = False) -> Model:
    """Return a Model whose params are "words" and "contexts" [vocabulary, width], and whose output is words[ids].

    Words begin uniform over ±1 / (2 width), as in word2vec. Contexts begin at 0 or, with `biases`, as the words; then
    there are also "word_bias" and "context_bias" [vocabulary], which GloVe needs.
    """

    def init(key):
        table = lambda name: jax.random.uniform(draw(key, name), (vocabulary, width), minval=-0.5, maxval=0.5) / width
        if not biases:
            return {"words": table("words"), "contexts": jnp.zeros((vocabulary, width))}, {}
        zeros = lambda: jnp.zeros(vocabulary)
        tables = {name: table(name) for name in ("words", "contexts")}
        return {**tables, "word_bias": zeros(), "context_bias": zeros()}, {}

    return Model(init, lambda params, stats, ids, *, key=None, train=False: (params["words"][ids], stats))
