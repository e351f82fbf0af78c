"""The actor-critic network: a policy and a value function of the same observations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from research.axes import Array, Float
from research.layers.linear import Linear


class ActorCritic(nnx.Module):
    """Two separate tanh perceptrons over observations; returns (action logits, values).

    Weights start orthogonal. The logits' layer is scaled by 0.01, which makes the first policy nearly uniform
    (Andrychowicz et al. 2021, section 3.2).
    """

    def __init__(
        self, input_shape: Sequence[int], *, num_actions: int, hidden: Sequence[int] = (64, 64), rngs: nnx.Rngs
    ):
        def tower(outputs, scale):
            widths = (math.prod(input_shape), *hidden, outputs)
            scales = (*[math.sqrt(2)] * len(hidden), scale)
            return nnx.List(
                Linear(a, b, kernel_init=nnx.initializers.orthogonal(scale), rngs=rngs)
                for a, b, scale in zip(widths[:-1], widths[1:], scales, strict=True)
            )

        self.actor, self.critic = tower(num_actions, 0.01), tower(1, 1.0)

    def __call__(
        self, x: Float[Array, " batch *observation"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "batch actions"], Float[Array, " batch"]]:
        x = x.reshape(len(x), -1)
        return _forward(self.actor, x), _forward(self.critic, x)[:, 0]


def _forward(layers: Sequence[Callable], x: Float[Array, "batch features"]) -> Float[Array, "batch outputs"]:
    for layer in layers[:-1]:
        x = jax.nn.tanh(layer(x))
    return layers[-1](x)
