"""Distillation: a student learns what a teacher says of the same inputs, besides the labels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float
from research.core import Loss, Model, Out, View, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.objectives.teacher import targets


def distil(
    model: Model | Callable, teacher: Model | Callable, *, view: View, temperature: float = 4.0, weight: float = 0.9,
    hints: float = 0.0, smoothing: float = 0.0, inputs: str = "image", labels: str = "label",
    augment: Callable | None = None,
) -> Loss:  # fmt: skip
    """(1 - weight) * cross-entropy(labels) + weight * T^2 * KL(teacher || student), with both softened by T.

    Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), section 2: probabilities are softmax(logits / T), and T^2 undoes
    the 1 / T^2 by which gradients shrink. `model` and `teacher` are Models or their `apply`, giving logits
    [batch, classes]; `view` says which weights the teacher has (`research.objectives.teacher`). Both see the very same
    augmented inputs (Beyer et al. 2022, arXiv:2106.05237), the teacher as in evaluation. No gradient flows through it,
    and its stats do not change.

    With `hints` > 0 both models give (logits, features [batch, features]), and hints * |student's - teacher's|^2 / 2
    is added (FitNets, Romero et al. 2015, arXiv:1412.6550, eq. 3); `hinted` brings the student's features to the
    teacher's size. The paper trains on hints first and then distils; here they are trained on together.

    Equals `classify` for weight = hints = 0. Adds over examples; those of mask 0 have no weight. Labels are as in
    `classify`, and are not read when `weight` is 1. Metrics: loss, distillation (the KL without T^2), agreement (how
    often both say the same class), and accuracy, hints if there are some. Keys are drawn as in `classify`.
    Raises UserError for a temperature or weight out of range, and shapes that do not fit.
    """
    if not temperature > 0 or not 0 <= weight <= 1:
        raise UserError(f"distil expects temperature > 0 and weight in 0..1; they are {temperature} and {weight}.")
    apply, teach = getattr(model, "apply", model), getattr(teacher, "apply", teacher)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x = field(batch, inputs)
        weights = example_weights(batch, len(x))
        outputs, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        taught = targets(teach, view, params, ctx, x)
        logits, soft = (outputs[0], taught[0]) if hints else (outputs, taught)
        _check(logits, soft, "logits")
        divergence = losses.kl_divergence(soft / temperature, logits / temperature)
        total = weight * temperature**2 * divergence
        metrics = {
            "distillation": weighted_mean(divergence, weights),
            "agreement": weighted_mean(losses.hits(logits, soft.argmax(-1)), weights),
        }
        if weight < 1:
            y = field(batch, labels)
            total = total + (1 - weight) * losses.cross_entropy(logits, y, smoothing=smoothing)
            metrics["accuracy"] = weighted_mean(losses.hits(logits, y), weights)
        if hints:
            _check(outputs[1], taught[1], "features")
            far = jnp.sum(jnp.square(outputs[1] - taught[1]).astype(jnp.float32), -1) / 2
            total = total + hints * far
            metrics["hints"] = weighted_mean(far, weights)
        metrics["loss"] = weighted_mean(total, weights)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def hinted(model: Model, *, sizes: tuple[int, int]) -> Model:
    """A Model of (logits, features) whose features have the teacher's size, from one whose features have another.

    A linear layer of its own maps them (Romero et al. 2015, section 2.2); `sizes` are the model's and the teacher's.
    Params are {"model": ..., "regressor": {"kernel", "bias"}}.
    """

    def init(key):
        params, stats = model.init(key)
        kernel = jax.nn.initializers.lecun_normal()(draw(key, "regressor"), sizes, jnp.float32)
        return {"model": params, "regressor": {"kernel": kernel, "bias": jnp.zeros(sizes[1])}}, stats

    def apply(params, stats, *given, key=None, train=False):
        (logits, features), stats = model.apply(params["model"], stats, *given, key=key, train=train)
        features = features @ params["regressor"]["kernel"] + params["regressor"]["bias"]
        return (logits, features), stats

    return Model(init, apply)


def logits_of(model: Model) -> Model:
    """The Model of logits alone, for evaluation, from one of (logits, features)."""

    def apply(params, stats, *given, key=None, train=False):
        (logits, _), stats = model.apply(params, stats, *given, key=key, train=train)
        return logits, stats

    return Model(model.init, apply)


def _check(mine: Float[Array, "..."], theirs: Float[Array, "..."], what: str) -> None:
    if mine.shape != theirs.shape:
        raise UserError(
            f"the student's {what} have the shape {list(mine.shape)}, the teacher's {list(theirs.shape)}; "
            "they must be alike (`hinted` brings features to the teacher's size)."
        )
