"""Dynamic loss scaling, which keeps small float16 gradients from underflowing to zero."""

import jax
import jax.numpy as jnp
import optax

from research.core import Loss, Mean, Out, overlay
from research.technique import Technique


def loss_scaled(
    loss: Loss, *, initial: float = 2.0**15, period: int = 2000, name: str = "loss_scale"
) -> Technique:  # fmt: skip
    """Compute the gradient of a Loss with a dynamic loss scale, for float16 (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by the scale before the backward pass, and the gradients are divided by it afterwards. If a
    gradient is not finite, the step changes no weight, no optimizer moment and no other entry of stats, and the scale
    is halved, but never below 1. After `period` finite steps in a row the scale doubles, up to the larger of
    2 ** 24 and `initial`. If `initial` is a power of two, scaling itself causes no rounding.

    Effect on `stats`: the entry `name` holds {scale, streak}, with streak the number of finite steps in a row. Metrics
    gain the scale, under `name`, and `skipped`, the fraction of skipped steps. Limit: in f32 it equals plain training.
    """

    # Without an end, f32 would overflow from the scale alone. NVIDIA Apex ends at the same scale.
    largest = max(initial, 2.0**24)

    def memory(key, params):
        return {"scale": jnp.float32(initial), "streak": jnp.int32(0)}

    def grad_fn(params, ctx):
        scale, streak = ctx.stats[name]["scale"], ctx.stats[name]["streak"]

        def scaled_loss(params):
            value, out = loss(params, ctx)
            return value * scale, out

        grads, out = jax.grad(scaled_loss, has_aux=True)(params)
        grads = jax.tree.map(lambda g: g / scale.astype(g.dtype), grads)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)]))
        stats = jax.tree.map(lambda new, old: jnp.where(finite, new, old), overlay(ctx.stats, out.stats), ctx.stats)
        period_complete = streak + 1 >= period
        grown = jnp.where(period_complete, jnp.minimum(2 * scale, largest), scale)
        new_entry = {
            "scale": jnp.where(finite, grown, jnp.maximum(scale / 2, 1.0)),
            "streak": jnp.where(finite & ~period_complete, streak + 1, 0),
        }
        extra = {name: Mean(scale, jnp.float32(1)), "skipped": Mean(1.0 - finite.astype(jnp.float32), jnp.float32(1))}
        return grads, Out({**stats, name: new_entry}, {**out.metrics, **extra})

    def guarded(optimizer):
        # Skip every non-finite update without limit: the falling scale is the remedy, not optax's error count.
        return optax.apply_if_finite(optimizer, max_consecutive_errors=2**31 - 2)

    return Technique(name, memory=memory, loss=loss, grad_fn=grad_fn, optimizer=guarded)
