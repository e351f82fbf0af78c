"""Adversarial training: evaluate a loss at inputs perturbed to maximise it."""

from __future__ import annotations

import jax

from research.axes import Scalar
from research.core import Loss, draw
from research.fields import field
from research.robust.attack import ascend
from research.robust.norms import Norm, linf


def adversarial(
    loss: Loss,
    *,
    epsilon: float | Scalar,
    steps: int,
    bounds: tuple[float, float] | None,
    step_size: float | Scalar | None = None,
    norm: Norm = linf,
    random_start: bool = True,
    inputs: str = "image",
) -> Loss:
    """Evaluate `loss` at inputs that maximise it within `epsilon` of the batch's inputs and within `bounds`.

    From Madry et al. 2018, equation 2.1. The attack ascends `loss` itself: PGD in general; with one step of size
    epsilon and no random start it is FGSM (Goodfellow et al. 2015); with one step of 1.25 epsilon and a random start it
    is the method of Wong et al. 2020. `epsilon`, `step_size` (default 2.5 epsilon / steps) and `bounds` are in the
    units of `batch[inputs]`, which is converted to f32.

    The attack holds the parameters fixed and maximises the sum over examples, so each example gets the attack that it
    would get alone, except through batch statistics. It uses the loss in training mode with the same key, and therefore
    the same dropout and augmentation. It perturbs inputs before the augmentation; gradients pass through the
    augmentation.

    Limit: with epsilon 0 it equals `loss` (inputs clipped to bounds, in f32). Effect on `stats`: those of the final
    call of `loss`; changes during the attack are discarded. The key is folded with "attack" for the random start;
    `loss` receives it unchanged.
    """

    def attacked(params, ctx):
        frozen = jax.lax.stop_gradient(params)

        def with_inputs(x):
            return ctx._replace(batch={**ctx.batch, inputs: x})

        def total(x):
            # The loss is a mean. Multiplied by its weight it is a sum, whose gradients do not depend on the batch size.
            value, out = loss(frozen, with_inputs(x))
            return value * out.metrics["loss"].weight

        x = ascend(
            total, field(ctx.batch, inputs), epsilon=epsilon, steps=steps, bounds=bounds, step_size=step_size,
            norm=norm, key=draw(ctx.key, "attack") if random_start else None,
        )  # fmt: skip
        return loss(params, with_inputs(x))

    return attacked
