"""Recurrent layers (RNN, LSTM, GRU), and stacks of them in one or two directions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float, Integer
from research.core import Tree, repeat
from research.layers.linear import Linear


def unroll(
    layer: nnx.Module,
    x: Float[Array, "time batch features"],
    *,
    state: Tree = None,
    keep: Float[Array, "time batch"] | None = None,
    valid: Bool[Array, "time batch"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Array, "time batch outputs"], Tree]:
    """Run a recurrent layer over time, from `state` (default: zeros); return all outputs and the final state.

    `keep` multiplies the state before each step: 0 resets it. A step that is not `valid` has the output 0 and leaves
    the state as it is. With `reverse`, time runs from the last step to the first.
    """
    # One matrix product computes x W for all steps; only h U depends on the previous step. On CPU it is a tenth
    # faster to compute x W within each step, because the result is used while it is in the cache.
    project_in_step = jax.default_backend() == "cpu"
    inputs = x if project_in_step else layer.input(x)
    dtype = jnp.promote_types(x.dtype, layer.input.kernel.dtype)
    zeros = layer.zeros(x.shape[1], dtype)
    state = zeros if state is None else jax.tree.map(lambda given, zero: given.astype(zero.dtype), state, zeros)

    def step(state, now):
        z, keep_now, valid_now = now
        if keep_now is not None:
            state = jax.tree.map(lambda s: s * keep_now[:, None].astype(s.dtype), state)
        after, output = layer.step(state, layer.input(z) if project_in_step else z)
        output = output.astype(dtype)
        if valid_now is not None:
            after = jax.tree.map(lambda new, old: jnp.where(valid_now[:, None], new, old), after, state)
            output = jnp.where(valid_now[:, None], output, 0)
        return after, output

    state, outputs = repeat(step, state, (inputs, keep, valid), reverse=reverse)
    return outputs, state


def orthogonal(gates: int) -> Callable:
    """Return a kernel initialiser for `gates` blocks of columns, each of them orthogonal."""

    def init(key, shape, dtype=jnp.float32, **_):
        keys = jax.random.split(key, gates)
        block = shape[0], shape[1] // gates
        return jnp.concatenate([nnx.initializers.orthogonal()(k, block, dtype) for k in keys], 1)

    return init


class RNNLayer(nnx.Module):
    """One simple recurrent layer (Elman 1990): h = activation(x W + b + h U). Its state is h.

    W is `input/kernel` [features, width] and U is `recurrent/kernel` [width, width], which starts orthogonal. There is
    one bias; PyTorch has two, but only their sum matters. Call it as `unroll`: the first axis is time.
    """

    def __init__(self, features: int, width: int, *, activation: Callable = jnp.tanh, rngs: nnx.Rngs):
        self.input = Linear(features, width, rngs=rngs)
        self.recurrent = Linear(width, width, use_bias=False, kernel_init=orthogonal(1), rngs=rngs)
        self.activation, self.outputs = activation, width

    __call__ = unroll

    def zeros(self, batch: int, dtype) -> Float[Array, "batch outputs"]:
        """Return the state at the start."""
        return jnp.zeros((batch, self.outputs), dtype)

    def step(self, state: Float[Array, "batch outputs"], z: Float[Array, "batch outputs"]):
        """Return the next state and the output, given z = x W + b."""
        h = self.activation(z + self.recurrent(state))
        return h.astype(state.dtype), h


class LSTMLayer(nnx.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997; forget gate by Gers et al. 2000). Its state is (h, c).

        i, f, g, o = split(x W + b + h U);  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

    W is `input/kernel` [features, 4 width] and U is `recurrent/kernel` [outputs, 4 width], in PyTorch's order of gates.
    There is one bias; PyTorch has two, but only their sum matters. U starts orthogonal gate by gate. The bias of the
    forget gate starts at 1 (Jozefowicz et al. 2015), thus a new cell remembers. c and the gates are in f32.

    With `projection`, h is multiplied by `projection/kernel` [width, projection], and has that size (Sak et al. 2014).
    Call the layer as `unroll`: the first axis is time.
    """

    def __init__(self, features: int, width: int, *, projection: int | None = None, rngs: nnx.Rngs):
        def forget_bias(key, shape, dtype=jnp.float32, **_):
            return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1)

        self.outputs, self.width = projection or width, width
        self.input = Linear(features, 4 * width, bias_init=forget_bias, rngs=rngs)
        self.recurrent = Linear(self.outputs, 4 * width, use_bias=False, kernel_init=orthogonal(4), rngs=rngs)
        self.projection = Linear(width, projection, use_bias=False, rngs=rngs) if projection else None

    __call__ = unroll

    def zeros(self, batch: int, dtype) -> tuple[Float[Array, "batch outputs"], Float[Array, "batch features"]]:
        """Return the state at the start."""
        return jnp.zeros((batch, self.outputs), dtype), jnp.zeros((batch, self.width))

    def step(self, state: tuple, z: Float[Array, "batch _"]):
        """Return the next state and the output, given z = x W + b."""
        h, c = state
        dtype = h.dtype
        i, f, g, o = jnp.split((z + self.recurrent(h)).astype(jnp.float32), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(dtype)
        if self.projection is not None:
            h = self.projection(h).astype(dtype)
        return (h, c), h


class GRULayer(nnx.Module):
    """One layer of gated recurrent units (Cho et al. 2014). Its state is h, in f32.

        r, u = sigmoid(x W_ru + b_ru + h U_ru + d_ru);  n = tanh(x W_n + b_n + r (h U_n + d_n));  h = (1 - u) n + u h

    W, b are `input` [features, 3 width] and U, d are `recurrent` [width, 3 width], in PyTorch's order of gates (r, u,
    n). As in PyTorch and cuDNN, r multiplies the product h U_n; in the paper, it multiplies h. The biases b_n and d_n
    are therefore not interchangeable. U starts orthogonal gate by gate. Call the layer as `unroll`: the first axis is
    time.
    """

    def __init__(self, features: int, width: int, *, rngs: nnx.Rngs):
        self.input = Linear(features, 3 * width, rngs=rngs)
        self.recurrent = Linear(width, 3 * width, kernel_init=orthogonal(3), rngs=rngs)
        self.outputs = width

    __call__ = unroll

    def zeros(self, batch: int, dtype) -> Float[Array, "batch outputs"]:
        """Return the state at the start. It is in f32 for any `dtype`, because it is a running sum."""
        return jnp.zeros((batch, self.outputs))

    def step(self, state: Float[Array, "batch outputs"], z: Float[Array, "batch _"]):
        """Return the next state and the output, given z = x W + b."""
        x_ru, x_n = jnp.split(z.astype(jnp.float32), (2 * self.outputs,), -1)
        h_ru, h_n = jnp.split(self.recurrent(state.astype(z.dtype)).astype(jnp.float32), (2 * self.outputs,), -1)
        r, u = jnp.split(jax.nn.sigmoid(x_ru + h_ru), 2, -1)
        h = (1 - u) * jnp.tanh(x_n + r * h_n) + u * state
        return h, h


class Recurrent(nnx.Module):
    """A stack of `depth` recurrent layers in one or two directions, with dropout between the layers.

    `layer` is RNNLayer, LSTMLayer or GRULayer, or a `functools.partial` of one with its options. In a `bidirectional`
    stack, the output is the concatenation of both directions, [forward, backward], after each layer (Schuster & Paliwal
    1997). The params are `layers/0/...` and, of the backward direction, `backward/0/...`.

    `segments` numbers the documents packed into a row: the state resets at each change. `lengths` is the number of
    steps of each row: the backward direction starts at the row's last step, and later outputs are 0. `state`, and the
    final state that is returned, hold one state per direction in a tuple per layer.
    """

    def __init__(
        self, layer: Callable, features: int, width: int, *, depth: int = 1, bidirectional: bool = False,
        dropout: float = 0.0, rngs: nnx.Rngs,
    ):  # fmt: skip
        directions = 2 if bidirectional else 1
        stacks = tuple([] for _ in range(directions))
        for _ in range(depth):
            for stack in stacks:
                stack.append(layer(features, width, rngs=rngs))
            features = directions * stacks[0][-1].outputs
        self.layers = nnx.List(stacks[0])
        self.backward = nnx.List(stacks[1]) if bidirectional else None
        self.outputs, self.dropout = features, nnx.Dropout(dropout)

    def __call__(
        self,
        x: Float[Array, "batch time features"],
        *,
        state: tuple | None = None,
        segments: Integer[Array, "batch time"] | None = None,
        lengths: Integer[Array, " batch"] | None = None,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "batch time outputs"], tuple]:
        valid = None if lengths is None else jnp.arange(x.shape[1])[:, None] < lengths
        x, final = x.swapaxes(0, 1), []
        directions = [self.layers] if self.backward is None else [self.layers, self.backward]
        for i in range(len(self.layers)):
            if i:
                x = self.dropout(x, deterministic=not train, rngs=rngs)
            ran = [
                stack[i](
                    x, state=None if state is None else state[i][reverse], keep=kept(segments, reverse=bool(reverse)),
                    valid=valid, reverse=bool(reverse),
                )
                for reverse, stack in enumerate(directions)
            ]  # fmt: skip
            x = jnp.concatenate([outputs for outputs, _ in ran], -1) if self.backward is not None else ran[0][0]
            final.append(tuple(last for _, last in ran))
        return x.swapaxes(0, 1), tuple(final)


def kept(
    segments: Integer[Array, "batch time"] | None, *, reverse: bool = False
) -> Float[Array, "time batch"] | None:  # fmt: skip
    """Return `keep` for `unroll`: 0 where a segment starts (with `reverse`: ends), except at the start of the row."""
    if segments is None:
        return None
    same = segments[:, 1:] == segments[:, :-1]
    edge = (0, 1) if reverse else (1, 0)
    return jnp.pad(same, ((0, 0), edge), constant_values=True).T.astype(jnp.float32)


def final_outputs(state: tuple) -> Float[Array, "batch outputs"]:
    """Return the last output of each direction of a Recurrent's last layer, concatenated: a vector for each row."""
    return jnp.concatenate([jax.tree.leaves(direction)[0] for direction in state[-1]], -1)
