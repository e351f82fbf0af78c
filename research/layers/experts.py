"""A mixture of experts: many feed-forward layers, and each token goes through a few."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float
from research.distributed.sharding import BATCH_AXES, constrain
from research.errors import UserError
from research.layers.linear import Linear


class Routed(NamedTuple):
    """The output of layers of experts (at last the logits), and the sum of their load-balance losses in f32."""

    output: Float[Array, "batch time features"]
    balance: Float[Array, " batch"]


class Experts(nnx.Module):
    """`number` feed-forward layers; each token takes the `top` of them.

    The router's softmax is in f32. With more than one expert a token's weights are scaled to add up to 1 (Lepikhin et
    al. 2020, GShard); one alone keeps its probability, from which the router learns (Fedus et al. 2021, Switch).
    Each example is a group of its own: an expert takes `capacity` * top * time / number of its tokens, rounded up, and
    the others pass it by. Earlier tokens come first, thus no token's output depends on a later one. With
    capacity = number / top none is ever left out. The balance of an example is number * sum_e f_e p_e (Switch, equation
    4): f_e is the share of choices that fell on expert e, p_e its mean probability; it is 1 if all shares are equal.

    On a mesh with an axis "expert" the examples are split over it too, and exchanged for the experts that it holds.
    Params: `router`, `up` and `down`, the last two with a leading axis of experts. Raises UserError for a `top` that
    is not between 1 and `number`.
    """

    def __init__(
        self, width, *, number, top=2, capacity=1.25, hidden=None, kernel_init, out_init=None,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        if not 1 <= top <= number:
            raise UserError(f"each token takes {top} of {number} experts; expected 1 to {number}.")
        hidden = hidden or 4 * width
        self.router = Linear(width, number, use_bias=False, kernel_init=kernel_init, rngs=rngs)
        self.up = Linears(number, width, hidden, kernel_init=kernel_init, rngs=rngs)
        self.down = Linears(number, hidden, width, kernel_init=out_init or kernel_init, rngs=rngs)
        self.number, self.top, self.capacity = number, top, capacity

    def __call__(self, x: Float[Array, "batch time features"], *, train: bool, rngs: nnx.Rngs | None = None) -> Routed:
        length = x.shape[1]
        chances = jax.nn.softmax(self.router(x.astype(jnp.float32)))
        best, chosen = jax.lax.top_k(chances, self.top)
        taken = jax.nn.one_hot(chosen, self.number).sum(-2)
        weights = taken * chances / (best.sum(-1, keepdims=True) if self.top > 1 else 1)
        balance = self.number * jnp.sum(taken.mean(1) / self.top * chances.mean(1), -1)

        places = min(length, math.ceil(self.capacity * self.top * length / self.number))
        place = (jnp.cumsum(taken, 1) - taken).astype(jnp.int32)
        # [B, T, expert, place]: a token behind the last place has a row of zeros
        sent = jax.nn.one_hot(place, places, dtype=x.dtype) * taken.astype(x.dtype)[..., None]
        arrived = jnp.einsum("btec,btd->ebcd", sent, x)
        arrived = constrain(arrived, "expert", ("data", "fsdp"))
        made = self.down(jax.nn.gelu(self.up(arrived), approximate=True))
        made = constrain(made, "expert", ("data", "fsdp"))
        back = jnp.einsum("btec,bte,ebcd->btd", sent, weights.astype(x.dtype), made)
        return Routed(constrain(back, BATCH_AXES), balance)


class Linears(nnx.Module):
    """`number` linear layers side by side."""

    def __init__(self, number, inputs, outputs, *, kernel_init, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (number, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((number, outputs), jnp.float32))

    def __call__(self, x: Float[Array, "experts *batch features"]) -> Float[Array, "experts *batch outputs"]:
        y = jnp.einsum("e...i,eio->e...o", x, self.kernel[...])
        return y + self.bias[...].reshape(len(y), *(1,) * (y.ndim - 2), -1)
