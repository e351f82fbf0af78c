"""Activation functions that `jax.nn` lacks or gives another default, under the names of papers and checkpoints.

Three different functions are called GELU; their values differ by up to 5e-4 (tanh) and 2e-2 (sigmoid). Use the one with
which a checkpoint was trained. Others are in `jax.nn` and equal PyTorch's: celu, elu, hard_sigmoid, hard_swish,
hard_tanh, leaky_relu, mish, relu, relu6, selu, silu, softplus, soft_sign.

A gated linear unit is activation(gate(x)) * up(x) with two linear maps (Dauphin et al. 2017; Shazeer 2020,
arXiv:2002.05202). Pass the activation to `transformer.FeedForward(activation=, gated=True)`:

    GLU sigmoid    Bilinear identity    ReGLU relu    GEGLU gelu or gelu_tanh    SwiGLU silu
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Float


def gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Compute x Phi(x), with the distribution function Phi of the standard normal (Hendrycks & Gimpel 2016).

    The form of BERT, of ViT and of PyTorch's default.
    """
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Compute x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, an approximation of `gelu`.

    The form of GPT-2, ALBERT and T5 1.1. Checkpoints call it "gelu_new" or "gelu_pytorch_tanh".
    """
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Compute x sigmoid(1.702 x), a coarse approximation of `gelu`: the form of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def squared_relu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Compute max(x, 0)^2 (So et al. 2021, Primer)."""
    return jnp.square(jax.nn.relu(x))
