"""Adversarial training: a loss at inputs that were moved to where it is worst."""

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
    """`loss` at inputs found by ascent on `loss` itself, within `epsilon` of the batch's and within `bounds` (Madry et
    al. 2018, equation 2.1): PGD; with one step of size epsilon and no random start FGSM (Goodfellow et al. 2015);
    with one of 1.25 epsilon and a random start that of Wong et al. 2020. `epsilon`, `step_size` (2.5 epsilon / steps
    unless given) and `bounds` are in the units of `batch[inputs]`, which becomes f32.

    The attack takes the parameters as fixed and raises the sum over the examples, so each meets the attack that it
    would meet alone (but for batch statistics). It sees the loss as training does: in training mode, with the same key
    and so the same dropout and augmentation, which it attacks before it; gradients pass through augmentation.

    With epsilon 0 this is `loss` (inputs within bounds, as f32). `stats` are those of the last call; what the attack
    would change in them is dropped. The key is folded with "attack", for the start, and passed on as it is.
    """

    def attacked(params, ctx):
        frozen = jax.lax.stop_gradient(params)

        def at(x):
            return ctx._replace(batch={**ctx.batch, inputs: x})

        def total(x):
            # The loss is a mean: times its weight it is the sum, in which the batch's size has no part.
            value, out = loss(frozen, at(x))
            return value * out.metrics["loss"].weight

        x = ascend(
            total, field(ctx.batch, inputs), epsilon=epsilon, steps=steps, bounds=bounds, step_size=step_size,
            norm=norm, key=draw(ctx.key, "attack") if random_start else None,
        )  # fmt: skip
        return loss(params, at(x))

    return attacked
