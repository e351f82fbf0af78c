"""The actor-critic network: a policy and a value over the same observations."""

import math

import jax
from flax import nnx

from research.layers.linear import Linear


class ActorCritic(nnx.Module):
    """Two separate perceptrons with tanh: observations [B, ...] -> (logits [B, num_actions], values [B]).

    Orthogonal weights; those of the logits are scaled by 0.01, so that the first policy is nearly uniform
    (Andrychowicz et al. 2021, section 3.2).
    """

    def __init__(self, input_shape, *, num_actions: int, hidden=(64, 64), rngs: nnx.Rngs):
        def tower(outputs, scale):
            widths = (math.prod(input_shape), *hidden, outputs)
            scales = (*[math.sqrt(2)] * len(hidden), scale)
            return nnx.List(
                Linear(a, b, kernel_init=nnx.initializers.orthogonal(scale), rngs=rngs)
                for a, b, scale in zip(widths[:-1], widths[1:], scales, strict=True)
            )

        self.actor, self.critic = tower(num_actions, 0.01), tower(1, 1.0)

    def __call__(self, x, *, train: bool, rngs=None):
        x = x.reshape(len(x), -1)
        return _forward(self.actor, x), _forward(self.critic, x)[:, 0]


def _forward(layers, x):
    for layer in layers[:-1]:
        x = jax.nn.tanh(layer(x))
    return layers[-1](x)
