"""BYOL: a network predicts what its own moving average makes of another view (Grill et al. 2020). No negatives."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.augment.view import two_views
from research.axes import Array, Int, Scalar
from research.core import Model, Out, Tree, draw, weighted_mean
from research.fields import example_weights
from research.technique import Technique


def byol(
    model: Model | Callable, predictor: Model | Callable, *, view: Callable, momentum: float | Callable = 0.99,
    inputs: str = "image", name: str = "byol",
) -> Technique:  # fmt: skip
    """Self-distillation (Grill et al. 2020, equation 2); params are {"online": of `model`, "predictor": ...}.

    `model` gives embeddings [batch, features], and `predictor` maps them to vectors of the same size; both are Models
    or their `apply`. `view(key, batch) -> batch` is drawn twice. For the two views v, w of an image the loss is
    |q(v) - z(w)|^2 + |q(w) - z(v)|^2: q is the prediction from the online network, z the embedding by the target
    network, both of length 1, and the loss lies between 0 and 8. No gradient flows into z. Both views go through each
    network in one batch.

    The target's weights follow after every update: t <- momentum * t + (1 - momentum) * online (equation 1);
    `momentum` is a number or a schedule `step -> number`, such as `rising`. Keeps them as the entry `name` of stats,
    in f32. The other entries, passed on, are those that the online network changed; what the target would change
    (running batch statistics, which it does not use in training) is dropped. With momentum 0 the target is the
    online network. `view` shows an Eval the target in place of the online network.

    The loss adds over examples, as far as the model's outputs do (with BatchNorm they do not, and without it BYOL may
    collapse to a constant: the loss then is 0). Examples of mask 0 have no weight. The key is folded with "view",
    "model", "predictor" and "target".
    """
    apply, predict = (getattr(m, "apply", m) for m in (model, predictor))

    def memory(key, params):
        return jax.tree.map(lambda x: x.astype(jnp.float32), params["online"])

    def loss(params, ctx):
        images = jnp.concatenate(two_views(ctx.key, ctx.batch, view=view, inputs=inputs))
        online, changed = apply(params["online"], ctx.stats, images, key=draw(ctx.key, "model"), train=True)
        guesses, more = predict(params["predictor"], ctx.stats, online, key=draw(ctx.key, "predictor"), train=True)
        weights = _like(ctx.stats[name], params["online"])
        targets, _ = apply(weights, ctx.stats, images, key=draw(ctx.key, "target"), train=True)
        count = len(images) // 2
        # Each view has to predict the target of the other.
        errors = jnp.sum(jnp.square(losses.unit(guesses) - jnp.roll(losses.unit(targets), count, 0)), -1)
        mean = weighted_mean(errors[:count] + errors[count:], example_weights(ctx.batch, count))
        return mean.value(), Out({**changed, **more}, {"loss": mean})

    def after(state, params):
        rate = momentum(state.step) if callable(momentum) else momentum
        follow = lambda t, p: rate * t + (1 - rate) * p.astype(jnp.float32)
        return {name: jax.tree.map(follow, state.stats[name], params["online"])}

    def seen(state):
        return {**state.params, "online": _like(state.stats[name], state.params["online"])}, state.stats

    return Technique(name, memory=memory, after=after, loss=loss, view=seen)


def rising(base: float, *, steps: int) -> Callable[[Int[Array, ""]], Scalar]:
    """The momentum of the paper at each step (section 3.3): from `base` up half a cosine to 1 at `steps`."""
    return lambda step: 1 - (1 - base) * (jnp.cos(jnp.pi * jnp.minimum(step / steps, 1)) + 1) / 2


def _like(average: Tree, params: Tree) -> Tree:
    return jax.tree.map(lambda t, p: t.astype(p.dtype), average, params)
