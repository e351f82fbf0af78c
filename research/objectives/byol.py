"""BYOL: predict a moving-average network's embedding of another view, without negatives (Grill et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.augment.view import two_views
from research.axes import Array, Int, Scalar
from research.core import Model, Out, Tree, draw, weighted_mean
from research.errors import check_range
from research.fields import example_weights
from research.technique import Technique


def byol(
    model: Model | Callable, predictor: Model | Callable, *, view: Callable, momentum: float | Callable = 0.99,
    inputs: str = "image", name: str = "byol",
) -> Technique:  # fmt: skip
    """Make a Technique for self-distillation without negatives (Grill et al. 2020, equation 2).

    Params are `{"online": of model, "predictor": ...}`. `model` returns embeddings [batch, features], and `predictor`
    maps them to vectors of the same size; both are Models or their `apply`. `view(key, batch) -> batch` is drawn twice.
    For two views v, w of an image the loss is |q(v) - z(w)|^2 + |q(w) - z(v)|^2. q is the prediction from the online
    network, z the embedding by the target network, both normalised to length 1; the loss therefore lies between 0 and
    8. No gradient flows into z. Each network processes both views in one batch.

    The target's weights follow after every update: t <- momentum * t + (1 - momentum) * online (equation 1). `momentum`
    is a number or a schedule `step -> number`, such as `momentum_schedule`. `view` makes an Eval use the target in
    place of the online network. Limit: with momentum 0 the target equals the online network.

    Effect on `stats`: the entry `name` holds the target's weights, in f32. Changes by the online network and the
    predictor are passed on. Changes by the target are discarded: running batch statistics, which it does not use in
    training.

    The loss adds over examples if the model's outputs do. With BatchNorm they do not; without it BYOL may collapse to a
    constant, with loss 0. Examples of mask 0 have no weight. The key is folded with "view", "model", "predictor" and
    "target". Raises UserError for a momentum outside 0..1.
    """
    check_range("byol", momentum=(momentum, 0, 1))
    apply, predict = (getattr(m, "apply", m) for m in (model, predictor))

    def memory(key, params):
        return jax.tree.map(lambda x: x.astype(jnp.float32), params["online"])

    def loss(params, ctx):
        images = jnp.concatenate(two_views(ctx.key, ctx.batch, view=view, inputs=inputs))
        online, online_stats = apply(params["online"], ctx.stats, images, key=draw(ctx.key, "model"), train=True)
        q, predictor_stats = predict(params["predictor"], ctx.stats, online, key=draw(ctx.key, "predictor"), train=True)
        weights = _cast_like(ctx.stats[name], params["online"])
        targets, _ = apply(weights, ctx.stats, images, key=draw(ctx.key, "target"), train=True)
        count = len(images) // 2
        # Rolling by half the batch pairs each prediction with the target of the other view.
        errors = jnp.sum(jnp.square(losses.l2_normalize(q) - jnp.roll(losses.l2_normalize(targets), count, 0)), -1)
        mean = weighted_mean(errors[:count] + errors[count:], example_weights(ctx.batch, count))
        return mean.value(), Out({**online_stats, **predictor_stats}, {"loss": mean})

    def after(state, params):
        rate = momentum(state.step) if callable(momentum) else momentum
        moving_average = lambda t, p: rate * t + (1 - rate) * p.astype(jnp.float32)
        return {name: jax.tree.map(moving_average, state.stats[name], params["online"])}

    def target_view(state):
        return {**state.params, "online": _cast_like(state.stats[name], state.params["online"])}, state.stats

    return Technique(name, memory=memory, after=after, loss=loss, view=target_view)


def momentum_schedule(base: float, *, steps: int) -> Callable[[Int[Array, ""]], Scalar]:
    """Make the paper's momentum schedule (section 3.3): from `base` along half a cosine to 1 at `steps`."""
    return lambda step: 1 - (1 - base) * (jnp.cos(jnp.pi * jnp.minimum(step / steps, 1)) + 1) / 2


def _cast_like(average: Tree, params: Tree) -> Tree:
    return jax.tree.map(lambda t, p: t.astype(p.dtype), average, params)
