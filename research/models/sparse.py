"""Networks on sparse inputs: the sum of the vectors of the terms of a text, and linear layers (fastText, TF-IDF)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Int
from research.layers.embedding import Embed
from research.layers.linear import Linear


class SparseClassifier(nnx.Module):
    """Sum the vectors of the terms of a text, each times its value, and return logits.

    The input is sparse: of a text, "ids" and "values" [batch, entries] (`research.data.text.bag`); the result equals
    that of the dense input [batch, vocabulary] times the table of vectors. Without `hidden`, the vectors have an entry
    per class, and the model is linear, such as logistic regression on TF-IDF. `hidden` are the widths of the vectors
    and of further layers. Each is followed by ReLU if `relu`, and by dropout. One hidden width, without ReLU and with
    the values of `bag(weights="mean")`, is fastText (Joulin et al. 2016, arXiv:1607.01759, with a full softmax).
    `dropped` is the probability that a term of a text is left out in training; the others are scaled up.
    """

    def __init__(
        self, vocabulary: int, *, hidden: tuple[int, ...] = (), num_classes: int, relu: bool = True,
        dropout: float = 0.0, dropped: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        widths = (*hidden, num_classes)
        # As the kernel of a layer whose inputs have norm 1; the linear model begins at 0.
        init = nnx.initializers.normal(widths[0] ** -0.5) if hidden else nnx.initializers.zeros
        self.embed = Embed(vocabulary, widths[0], embedding_init=init, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(widths[0]))
        self.layers = nnx.List(Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False))
        self.relu, self.dropout, self.dropped = relu, nnx.Dropout(dropout), nnx.Dropout(dropped)

    def __call__(
        self, ids: Int[Array, "batch entries"], values: Float[Array, "batch entries"], *, train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch classes"]:  # fmt: skip
        values = self.dropped(values, deterministic=not train, rngs=rngs)
        x = jnp.einsum("be,bef->bf", values, self.embed(ids)) + self.bias[...]
        for layer in self.layers:
            x = self.dropout(jax.nn.relu(x) if self.relu else x, deterministic=not train, rngs=rngs)
            x = layer(x)
        return x
