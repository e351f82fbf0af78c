"""A mixture of experts: many feed-forward layers, a few of them active for each token."""

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
    """The output of expert layers (finally the logits), and the sum of their load-balancing losses in f32."""

    output: Float[Array, "batch time features"]
    balance: Float[Array, " batch"]


class Experts(nnx.Module):
    """A mixture of `number` feed-forward layers, called experts; the router sends each token to `top` of them.

    The router's softmax is in f32. For `top` > 1, the weights of a token's experts are rescaled to sum to 1 (Lepikhin
    et al. 2020, GShard). For `top` = 1, the weight is the router's probability, through which the router learns (Fedus
    et al. 2021, Switch).

    Each example is routed as its own group. An expert processes at most ceil(`capacity` * top * time / number) tokens
    of an example, and skips further tokens. Earlier tokens have priority, thus no token's output depends on a later
    token. With capacity = number / top no token is ever skipped.

    The load-balancing loss of an example is number * sum_e f_e p_e (Switch, equation 4): f_e is the fraction of routing
    choices that fell on expert e, p_e its mean router probability. It is 1 if all fractions are equal.

    On a mesh with an axis "expert", the batch is split over that axis too, and tokens are exchanged with the devices
    that hold their experts. The params are `router`, `up` and `down`; the last two have a leading axis of experts.

    Raises UserError unless 1 <= `top` <= `number`.
    """

    def __init__(
        self, width, *, number, top=2, capacity=1.25, hidden=None, kernel_init, out_init=None,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        if not 1 <= top <= number:
            raise UserError(f"top={top} of {number} experts per token; expected 1 to {number}.")
        hidden = hidden or 4 * width
        self.router = Linear(width, number, use_bias=False, kernel_init=kernel_init, rngs=rngs)
        self.up = ExpertLinear(number, width, hidden, kernel_init=kernel_init, rngs=rngs)
        self.down = ExpertLinear(number, hidden, width, kernel_init=out_init or kernel_init, rngs=rngs)
        self.number, self.top, self.capacity = number, top, capacity

    def __call__(self, x: Float[Array, "batch time features"], *, train: bool, rngs: nnx.Rngs | None = None) -> Routed:
        length = x.shape[1]
        probabilities = jax.nn.softmax(self.router(x.astype(jnp.float32)))
        top_probabilities, top_experts = jax.lax.top_k(probabilities, self.top)
        selected = jax.nn.one_hot(top_experts, self.number).sum(-2)
        weights = selected * probabilities / (top_probabilities.sum(-1, keepdims=True) if self.top > 1 else 1)
        balance = self.number * jnp.sum(selected.mean(1) / self.top * probabilities.mean(1), -1)

        num_slots = min(length, math.ceil(self.capacity * self.top * length / self.number))
        slot = (jnp.cumsum(selected, 1) - selected).astype(jnp.int32)
        # [B, T, expert, slot]: a token beyond the last slot has a row of zeros
        dispatch = jax.nn.one_hot(slot, num_slots, dtype=x.dtype) * selected.astype(x.dtype)[..., None]
        expert_inputs = jnp.einsum("btec,btd->ebcd", dispatch, x)
        expert_inputs = constrain(expert_inputs, "expert", ("data", "fsdp"))
        expert_outputs = self.down(jax.nn.gelu(self.up(expert_inputs), approximate=True))
        expert_outputs = constrain(expert_outputs, "expert", ("data", "fsdp"))
        output = jnp.einsum("btec,bte,ebcd->btd", dispatch, weights.astype(x.dtype), expert_outputs)
        return Routed(constrain(output, BATCH_AXES), balance)


class ExpertLinear(nnx.Module):
    """`number` independent linear layers, applied in parallel: one per expert."""

    def __init__(self, number, inputs, outputs, *, kernel_init, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (number, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((number, outputs), jnp.float32))

    def __call__(self, x: Float[Array, "experts *batch features"]) -> Float[Array, "experts *batch outputs"]:
        y = jnp.einsum("e...i,eio->e...o", x, self.kernel[...])
        return y + self.bias[...].reshape(len(y), *(1,) * (y.ndim - 2), -1)
