"""Multiple-instance learning: a bag of instances has a label, its instances have none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float
from research.errors import unknown
from research.layers.linear import Linear

POOLINGS = ("attention", "max", "mean")


class BagClassifier(nnx.Module):
    """Embed every instance by hidden layers with ReLU, pool over the bag, and return logits.

    `pooling` is "attention", the mean with weights softmax_n w (tanh(V h_n) * sigmoid(U h_n)) that the network learns
    (Ilse, Tomczak & Welling 2018, equations 7 and 9), with `attention_width` rows of V and U; "max" of each feature
    over the instances; or "mean". The result does not depend on the order of the instances. An instance of NaN in every
    feature is padding (`research.data.readers.arrays.padded`). `attention(x)` returns the weights, which show the
    instances that decide.
    Raises UserError for an unknown pooling.
    """

    def __init__(
        self, features: int, *, hidden=(64,), num_classes: int = 2, pooling: str = "attention",
        attention_width: int = 32, dropout: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        widths = (features, *hidden)
        init = nnx.initializers.he_normal()
        self.layers = nnx.List(
            Linear(a, b, kernel_init=init, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False)
        )
        if pooling == "attention":
            self.v = Linear(widths[-1], attention_width, rngs=rngs)
            self.u = Linear(widths[-1], attention_width, rngs=rngs)
            self.w = Linear(attention_width, 1, rngs=rngs)
        self.head = Linear(widths[-1], num_classes, rngs=rngs)
        self.pooling, self.dropout = pooling, nnx.Dropout(dropout)

    def __call__(
        self, x: Float[Array, "batch instances features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        h, real = self._embedded(x, train=train, rngs=rngs)
        if self.pooling == "max":
            pooled = jnp.max(h, 1, where=real[..., None], initial=0)  # after ReLU, nothing is below 0
        elif self.pooling == "mean":
            pooled = jnp.sum(h, 1, where=real[..., None]) / jnp.maximum(real.sum(1), 1)[:, None]
        else:
            pooled = jnp.einsum("bn,bnf->bf", self._weights(h, real), h)
        return self.head(pooled)

    def attention(self, x: Float[Array, "batch instances features"]) -> Float[Array, "batch instances"]:
        """Return the weight of each instance, 0 for padding; they sum to 1 over a bag."""
        return self._weights(*self._embedded(x, train=False, rngs=None))

    def _embedded(self, x, *, train, rngs):
        real = ~jnp.isnan(x).all(-1)
        # Replaced before the layers, because NaN times a zero gradient is NaN.
        h = jnp.where(real[..., None], x, 0)
        for layer in self.layers:
            h = self.dropout(jax.nn.relu(layer(h)), deterministic=not train, rngs=rngs)
        return h, real

    def _weights(self, h, real):
        scores = self.w(jnp.tanh(self.v(h)) * jax.nn.sigmoid(self.u(h)))[..., 0]
        return jax.nn.softmax(jnp.where(real, scores.astype(jnp.float32), -1e30)) * real
