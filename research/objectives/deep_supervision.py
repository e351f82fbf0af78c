"""Deep supervision: train auxiliary classifiers on hidden layers together with the final one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from research.core import Loss, Model
from research.objectives.multi_task import classification, fixed, multi_task


def deep_supervision(
    model: Model | Callable, *, final: str, companions: Mapping[str, float], steps: int, labels: str = "label",
    smoothing: float = 0.0, **arguments: Any,
) -> Loss:  # fmt: skip
    """Make a `multi_task` Loss with one label for several outputs: a final one and companions that fade out.

    The weight of `final` is 1. The weight of every other output is its number in `companions` {output: weight}, and
    falls linearly to 0 over `steps` (Lee et al. 2015, eq. 3 and section 2: alpha * (1 - t / N), without the threshold
    gamma).

    `model` returns {output: logits [batch, classes]}; the companions' heads are used only in training. Metrics are loss
    (the weighted sum), `{output}_loss` and `{output}_accuracy`. Limit: with all companion weights 0 the gradient equals
    that of `classify` on the final output. `arguments` are those of `multi_task`, which also states the effect on
    `stats`.
    """
    falling = lambda weight: lambda step: weight * (1 - step / steps)
    weights = {final: 1.0, **{name: falling(weight) for name, weight in companions.items()}}
    tasks = {name: classification(name, labels=labels, smoothing=smoothing) for name in weights}
    return multi_task(model, tasks, weigh=fixed(weights), **arguments)
