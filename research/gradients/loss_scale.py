"""A dynamic loss scale, which keeps the small gradients of float16 above zero."""

import jax
import jax.numpy as jnp
import optax

from research.core import Loss, Mean, Out, overlay
from research.technique import Technique


def scaled(
    loss: Loss, *, initial: float = 2.0**15, period: int = 2000, name: str = "loss_scale"
) -> Technique:  # fmt: skip
    """The gradient of a Loss with a dynamic loss scale, for float16 (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by the scale before the backward pass, and the gradients are divided by it after. Where
    one is not finite the step changes no weight, no moment and no other entry of stats, and the scale is halved (never
    below 1); after `period` finite steps in a row it doubles. Both are powers of two, so that scaling alone rounds
    nothing. Keeps the entry `name` of stats: the scale, and how many steps in a row were finite. Metrics gain
    `loss_scale` and `skipped`, the share of steps left out. In f32, where nothing overflows, it equals plain training.
    """

    def memory(key, params):
        return {"scale": jnp.float32(initial), "streak": jnp.int32(0)}

    def grad_fn(params, ctx):
        scale, streak = ctx.stats[name]["scale"], ctx.stats[name]["streak"]

        def enlarged(params):
            value, out = loss(params, ctx)
            return value * scale, out

        grads, out = jax.grad(enlarged, has_aux=True)(params)
        grads = jax.tree.map(lambda g: g / scale.astype(g.dtype), grads)
        good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)]))
        stats = jax.tree.map(lambda new, old: jnp.where(good, new, old), overlay(ctx.stats, out.stats), ctx.stats)
        full = streak + 1 >= period
        moved = {
            "scale": jnp.where(good, jnp.where(full, 2 * scale, scale), jnp.maximum(scale / 2, 1.0)),
            "streak": jnp.where(good & ~full, streak + 1, 0),
        }
        told = {name: Mean(scale, jnp.float32(1)), "skipped": Mean(1.0 - good.astype(jnp.float32), jnp.float32(1))}
        return grads, Out({**stats, name: moved}, {**out.metrics, **told})

    def guarded(optimizer):
        # An update that is not finite is left out however many there were: the scale is what answers to them.
        return optax.apply_if_finite(optimizer, max_consecutive_errors=2**31 - 2)

    return Technique(name, memory=memory, loss=loss, grad_fn=grad_fn, optimizer=guarded)
