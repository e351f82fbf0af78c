"""Sharpness-aware minimisation (SAM, ASAM): gradients at a worst-case perturbation, for flat minima."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Float, Scalar
from research.core import GradFn, Tree
from research.errors import UserError


def sam(grad_fn: GradFn, *, rho: float = 0.05) -> GradFn:
    """Compute the gradient at params + rho * g / ||g||, with g the gradient at params (SAM).

    From Foret et al. 2021, equations 2 and 3. Costs two gradients per step, of the same batch with the same key, and
    therefore the same dropout and augmentation. ||g|| is over all parameters, in f32; if g is 0 the params are not
    perturbed. Limit: with rho = 0 it equals `grad_fn`. Effect on `stats`: stats and metrics are those of the first
    gradient, at the unperturbed params.

    Place estimators that remember or split outside: `accumulate(sam(...), n)` and `averaged(sam(...))` perturb once for
    each part of the batch (m-sharpness, section 4.1); `sam(accumulate(...))` perturbs once for the complete batch.

    Raises UserError for a negative rho.
    """

    def climb(params, grads):
        return jax.tree.map(lambda g: _divide_or_zero(rho, _norm(grads)) * g, grads)

    return _perturbed_gradient(grad_fn, climb, rho)


def asam(grad_fn: GradFn, *, rho: float = 0.5, eta: float = 0.01, mask: Callable[[Tree], Tree] | None = None) -> GradFn:
    """Compute the gradient at params + rho * T^2 g / ||T g||, with T = |params| + eta (adaptive SAM).

    From Kwon et al. 2021, section 4 and algorithm 1; T acts element by element. The neighbourhood scales with the
    weights, so a rescaling that preserves the network's function preserves the sharpness. T is 1 where `mask(params)`,
    a tree of bool, is false. The authors' code applies T to kernels only, which is `mask=decay_mask()`; by default T
    applies to all params. Limit, `stats`, composition and errors are as in `sam`.
    """

    def climb(params, grads):
        scale_mask = jax.tree.map(lambda _: True, params) if mask is None else mask(params)
        scale = jax.tree.map(lambda p, yes: _f32(jnp.abs(p)) + eta if yes else jnp.float32(1), params, scale_mask)
        scaled = jax.tree.map(lambda t, g: t * g, scale, grads)
        return jax.tree.map(lambda t, g: _divide_or_zero(rho, _norm(scaled)) * t * g, scale, scaled)

    return _perturbed_gradient(grad_fn, climb, rho)


def _perturbed_gradient(grad_fn: GradFn, climb: Callable[[Tree, Tree], Tree], rho: float) -> GradFn:
    """Compute the gradient at params + climb(params, gradient at params in f32)."""
    if rho < 0:
        raise UserError(f"rho is {rho}; expected 0 or more, because it is a distance.")

    def sharp(params, ctx):
        first, out = grad_fn(params, ctx)
        step = climb(params, jax.tree.map(_f32, first))
        perturbed = jax.tree.map(lambda p, s: (_f32(p) + s).astype(p.dtype), params, step)
        grads, _ = grad_fn(perturbed, ctx)
        return grads, out

    return sharp


def _f32(x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
    return x.astype(jnp.float32)


def _norm(tree: Tree) -> Scalar:
    return optax.tree.norm(tree)


def _divide_or_zero(rho: float, norm: Scalar) -> Scalar:
    return rho / (norm + (norm == 0))
