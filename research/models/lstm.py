"""Long short-term memory as a language model (Hochreiter & Schmidhuber 1997; forget gate by Gers et al. 2000)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float, Integer
from research.core import repeat
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear


class LSTMLayer(nnx.Module):
    """One LSTM layer; the first axis is time.

        i, f, g, o = split(x W + b + h U);  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

    W is `input/kernel` [features, 4 width] and U is `recurrent/kernel` [width, 4 width], in PyTorch's order of gates.
    There is one bias; PyTorch has two, but only their sum matters. U starts orthogonal gate by gate. The bias of the
    forget gate starts at 1 (Jozefowicz et al. 2015), thus a new cell remembers. `keep` multiplies h and c before each
    step: 0 resets them. c and the gates are in f32.
    """

    def __init__(self, features, width, *, rngs: nnx.Rngs):
        def orthogonal(key, shape, dtype=jnp.float32, **_):
            keys = jax.random.split(key, 4)
            return jnp.concatenate([nnx.initializers.orthogonal()(k, (shape[0], shape[0]), dtype) for k in keys], 1)

        def forget_bias(key, shape, dtype=jnp.float32, **_):
            return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1)

        self.input = Linear(features, 4 * width, bias_init=forget_bias, rngs=rngs)
        self.recurrent = Linear(
            width, 4 * width, use_bias=False, kernel_init=orthogonal, rngs=rngs
        )  # fmt: skip
        self.width = width

    def __call__(
        self, x: Float[Array, "time batch features"], *, keep: Float[Array, "time batch"] | None = None
    ) -> Float[Array, "time batch outputs"]:
        # One matrix product computes x W for all steps; only h U depends on the previous step. On CPU it is a tenth
        # faster to compute x W within each step, because the result is used while it is in the cache.
        project_in_step = jax.default_backend() == "cpu"
        inputs = x if project_in_step else self.input(x)
        dtype = jnp.promote_types(x.dtype, self.input.kernel.dtype)

        def step(carry, inputs_and_keep):
            h, c = carry
            z, keep_now = inputs_and_keep
            if keep_now is not None:
                h, c = h * keep_now[:, None].astype(h.dtype), c * keep_now[:, None]
            z = (self.input(z) if project_in_step else z) + self.recurrent(h)
            i, f, g, o = jnp.split(z.astype(jnp.float32), 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(dtype)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], self.width))
        return repeat(step, (zeros.astype(dtype), zeros), (inputs, keep))[1]


class LSTM(nnx.Module):
    """A language model that returns the logits of each next token: an embedding, `depth` LSTM layers and a linear head.

    `segments` numbers the documents packed into a row: the state resets at each change. `positions` is accepted, as by
    GPT, but ignored. Dropout applies to the inputs of each layer and of the head (Zaremba et al. 2014). The defaults
    have 1.18 M parameters.
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
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time vocabulary"]:
        drop = lambda x: self.dropout(x, deterministic=not train, rngs=rngs)
        x = embed_tokens(self.embed, tokens.T)
        keep = None
        if segments is not None:
            keep = jnp.pad(segments[:, 1:] == segments[:, :-1], ((0, 0), (1, 0))).T.astype(jnp.float32)
        for layer in self.layers:
            x = layer(drop(x), keep=keep)
        return self.head(drop(x).swapaxes(0, 1))
