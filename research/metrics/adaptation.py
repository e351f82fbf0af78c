"""Few-shot evaluation: accuracy on new tasks before and after a few gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Integer, Scalar
from research.core import Ctx, Loss, Model, Trained, Tree, draw, weighted_mean
from research.data.sampling.few_shot import QUERY, SUPPORT
from research.fields import example_weights
from research.objectives.maml import adapted, part


def measure_adaptation(
    loss: Loss, model: Model | Callable, *, learning_rate: float, steps: int, begin: Callable | None = None,
    inputs: str = "image",
) -> Callable:  # fmt: skip
    """Return the measure of an Eval on few-shot tasks: `accuracy` and `accuracy_before` on the query examples.

    `accuracy` follows `steps` gradient descent steps of `loss` on the support examples; `accuracy_before` follows none.
    `begin(params)` returns the params at which descent starts (default: the trained params). `model` is a Model or its
    `apply`, and returns the logits.
    """
    apply_task = getattr(model, "apply", model)

    def measure(trained: Trained, batch: Mapping) -> dict:
        start = begin(trained.params) if begin else trained.params
        support, query = part(batch, SUPPORT), part(batch, QUERY)

        def task(number: Integer[Array, ""], support: Mapping, query: Mapping) -> tuple[Scalar, Scalar]:
            ctx = Ctx(support, trained.stats, draw(0, "adaptation", number), jnp.int32(0))
            after, _ = adapted(loss, start, ctx, learning_rate=learning_rate, steps=steps, first_order=True)

            def accuracy(params: Tree) -> Scalar:
                logits, _ = apply_task(params, trained.stats, query[inputs], train=False)
                return losses.hits(logits, query["label"]).mean()

            return accuracy(after), accuracy(start)

        count = len(query["label"])
        scores = jax.vmap(task)(jnp.arange(count), support, query)
        weights = example_weights(batch, count)
        return {key: weighted_mean(x, weights) for key, x in zip(("accuracy", "accuracy_before"), scores, strict=True)}

    return measure
