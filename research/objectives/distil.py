"""Knowledge distillation: train a student on a teacher's outputs and on the labels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float
from research.core import Loss, Model, Out, View, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.objectives.teacher import teacher_outputs


def distil(
    model: Model | Callable, teacher: Model | Callable, *, view: View, temperature: float = 4.0, weight: float = 0.9,
    hints: float = 0.0, smoothing: float = 0.0, inputs: str = "image", labels: str = "label",
    augment: Callable | None = None,
) -> Loss:  # fmt: skip
    """Minimise (1 - weight) * cross-entropy(labels) + weight * T^2 * KL(teacher || student), both softened by T.

    From Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), section 2: probabilities are softmax(logits / T), T is the
    `temperature`, and T^2 undoes the 1 / T^2 by which gradients shrink. `model` (the student) and `teacher` are Models
    or their `apply` and return logits [batch, classes]; `view` selects the teacher's weights
    (`research.objectives.teacher`). Both receive identical augmented inputs (Beyer et al. 2022, arXiv:2106.05237); the
    teacher runs in evaluation mode. No gradient flows through it.

    With `hints` > 0 both models return (logits, features [batch, features]), and hints * |student's - teacher's|^2 / 2
    is added (FitNets, Romero et al. 2015, arXiv:1412.6550, eq. 3). `hinted` maps the student's features to the
    teacher's size. The paper trains on hints first and then distils; here both terms are trained together.

    Limit: for weight = hints = 0 it equals `classify`. It adds over examples; those of mask 0 have no weight. Labels
    are as in `classify`, and are not read if `weight` is 1. Metrics are loss, distillation (the KL in nats, without
    T^2), agreement (how often both predict the same class), accuracy if labels are read, and hints if used. Effect on
    `stats`: the student's are passed on; the teacher's do not change. The key is folded with "augment" and "model".

    Raises UserError for a temperature or weight out of range, and for shapes that do not fit.
    """
    if not temperature > 0 or not 0 <= weight <= 1:
        raise UserError(f"distil expects temperature > 0 and weight in 0..1; they are {temperature} and {weight}.")
    apply, apply_teacher = getattr(model, "apply", model), getattr(teacher, "apply", teacher)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x = field(batch, inputs)
        weights = example_weights(batch, len(x))
        outputs, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        taught = teacher_outputs(apply_teacher, view, params, ctx, x)
        logits, teacher_logits = (outputs[0], taught[0]) if hints else (outputs, taught)
        _check_same_shape(logits, teacher_logits, "logits")
        divergence = losses.kl_divergence(teacher_logits / temperature, logits / temperature)
        total = weight * temperature**2 * divergence
        metrics = {
            "distillation": weighted_mean(divergence, weights),
            "agreement": weighted_mean(losses.hits(logits, teacher_logits.argmax(-1)), weights),
        }
        if weight < 1:
            y = field(batch, labels)
            total = total + (1 - weight) * losses.cross_entropy(logits, y, smoothing=smoothing)
            metrics["accuracy"] = weighted_mean(losses.hits(logits, y), weights)
        if hints:
            _check_same_shape(outputs[1], taught[1], "features")
            hint_error = jnp.sum(jnp.square(outputs[1] - taught[1]).astype(jnp.float32), -1) / 2
            total = total + hints * hint_error
            metrics["hints"] = weighted_mean(hint_error, weights)
        metrics["loss"] = weighted_mean(total, weights)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def hinted(model: Model, *, sizes: tuple[int, int]) -> Model:
    """Map the features of a Model of (logits, features) to the teacher's size by a trained linear layer.

    From Romero et al. 2015, section 2.2. `sizes` are the model's and the teacher's feature sizes. Params are
    `{"model": ..., "regressor": {"kernel", "bias"}}`.
    """

    def init(key):
        params, stats = model.init(key)
        kernel = jax.nn.initializers.lecun_normal()(draw(key, "regressor"), sizes, jnp.float32)
        return {"model": params, "regressor": {"kernel": kernel, "bias": jnp.zeros(sizes[1])}}, stats

    def apply(params, stats, *inputs, key=None, train=False):
        (logits, features), stats = model.apply(params["model"], stats, *inputs, key=key, train=train)
        features = features @ params["regressor"]["kernel"] + params["regressor"]["bias"]
        return (logits, features), stats

    return Model(init, apply)


def logits_of(model: Model) -> Model:
    """Reduce a Model of (logits, features) to its logits, for evaluation."""

    def apply(params, stats, *inputs, key=None, train=False):
        (logits, _), stats = model.apply(params, stats, *inputs, key=key, train=train)
        return logits, stats

    return Model(model.init, apply)


def _check_same_shape(student: Float[Array, "..."], teacher: Float[Array, "..."], kind: str) -> None:
    if student.shape != teacher.shape:
        raise UserError(
            f"the student's {kind} have the shape {list(student.shape)}, the teacher's {list(teacher.shape)}; "
            "expected equal shapes (`hinted` maps features to the teacher's size)."
        )
