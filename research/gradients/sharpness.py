"""Sharpness-aware minimisation: the gradient at the worst of the weights nearby, for minima that are flat."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Float, Scalar
from research.core import GradFn, Tree
from research.errors import UserError


def sam(grad_fn: GradFn, *, rho: float = 0.05) -> GradFn:
    """The gradient at params + rho * g / ||g||, g the gradient at params (Foret et al. 2021, eqs. 2 and 3).

    Two gradients a step, of the same batch with the same key: the same dropout, the same augmentation. Stats and
    metrics are those of the first, at the params themselves. ||g|| is over all parameters, in f32; where g is 0
    nothing moves. With rho = 0 this is `grad_fn`.

    Put what remembers or splits outside: `accumulate(sam(...), n)` and `averaged(sam(...))` climb once for every part
    of the batch (m-sharpness, section 4.1), `sam(accumulate(...))` once for the whole.

    Raises UserError for a negative rho.
    """

    def climb(params, grads):
        return jax.tree.map(lambda g: _over(rho, _norm(grads)) * g, grads)

    return _above(grad_fn, climb, rho)


def asam(grad_fn: GradFn, *, rho: float = 0.5, eta: float = 0.01, mask: Callable[[Tree], Tree] | None = None) -> GradFn:
    """The gradient at params + rho * T^2 g / ||T g||, where T is |params| + eta, element by element (adaptive SAM,
    Kwon et al. 2021, section 4 and algorithm 1).

    The neighbourhood shrinks and grows with the weights, so a rescaling that leaves the network's function alone
    leaves the sharpness alone. T is 1 where `mask(params)`, a tree of bool, is false: the authors' code takes T for
    kernels only, which is `mask=decay_mask()`. By default it is taken for all. All else is as in `sam`.
    """

    def climb(params, grads):
        chosen = jax.tree.map(lambda _: True, params) if mask is None else mask(params)
        scale = jax.tree.map(lambda p, yes: _f32(jnp.abs(p)) + eta if yes else jnp.float32(1), params, chosen)
        scaled = jax.tree.map(lambda t, g: t * g, scale, grads)
        return jax.tree.map(lambda t, g: _over(rho, _norm(scaled)) * t * g, scale, scaled)

    return _above(grad_fn, climb, rho)


def _above(grad_fn: GradFn, climb: Callable[[Tree, Tree], Tree], rho: float) -> GradFn:
    """The gradient at params + climb(params, gradient there in f32)."""
    if rho < 0:
        raise UserError(f"rho is {rho}, and must be 0 or more: it is a distance.")

    def sharp(params, ctx):
        first, out = grad_fn(params, ctx)
        step = climb(params, jax.tree.map(_f32, first))
        above = jax.tree.map(lambda p, s: (_f32(p) + s).astype(p.dtype), params, step)
        grads, _ = grad_fn(above, ctx)
        return grads, out

    return sharp


def _f32(x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
    return x.astype(jnp.float32)


def _norm(tree: Tree) -> Scalar:
    return optax.tree.norm(tree)


def _over(rho: float, norm: Scalar) -> Scalar:
    return rho / (norm + (norm == 0))
