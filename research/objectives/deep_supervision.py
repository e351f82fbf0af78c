"""Deep supervision: classifiers on hidden layers, trained beside the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from research.core import Loss, Model
from research.objectives.multi_task import classification, fixed, multi_task


def deep_supervision(
    model: Model | Callable, *, final: str, companions: Mapping[str, float], steps: int, labels: str = "label",
    smoothing: float = 0.0, **arguments: Any,
) -> Loss:  # fmt: skip
    """The `multi_task` Loss of one label for several outputs: weight 1 for `final`, and for every other one its number
    in `companions` {output: weight}, falling to 0 in a straight line over `steps` (Lee et al. 2015, eq. 3 and
    section 2: alpha * (1 - t / N), without the threshold gamma).

    `model` gives {output: logits [batch, classes]}; the companions' heads are used in training only. Metrics are loss
    (the weighted sum), `{output}_loss` and `{output}_accuracy`. With all weights 0 the gradient is that of `classify`
    on the final output. `arguments` are those of `multi_task`.
    """
    fall = lambda weight: lambda step: weight * (1 - step / steps)
    weights = {final: 1.0, **{name: fall(weight) for name, weight in companions.items()}}
    tasks = {name: classification(name, labels=labels, smoothing=smoothing) for name in weights}
    return multi_task(model, tasks, weigh=fixed(weights), **arguments)
