"""The evaluation loss of a constant prediction, the baseline for an untrained model."""

from typing import NamedTuple

import jax
import numpy as np

from research.core import Mean
from research.diagnose.case import Case, asking


class ConstantBaseline(NamedTuple):
    """The evaluation of the small batch for the untrained model and for a constant prediction.

    `metric`: "loss" or "mse". `fresh`: its value for the untrained model. `constant`: its value if every output is 0,
    or, for regression, the mean of the targets. `classes`: the number of classes, None for regression.
    """

    metric: str
    fresh: float
    constant: float
    classes: int | None


def constant_baseline(case: Case) -> ConstantBaseline | None:
    """Return the ConstantBaseline of an experiment; None if no evaluation computes a loss of the model's outputs."""
    if case.question is None:
        return None
    params, stats, small = case.state.params, case.state.stats, case.small
    answer = case.question.ask(params, stats, small)
    metric = next((name for name in ("loss", "mse") if isinstance(answer.states.get(name), Mean)), None)
    if metric is None or not isinstance(answer.outputs, jax.Array):
        return None
    outputs, target = answer.outputs, small.get(case.question.target)
    constant = np.zeros(outputs.shape, outputs.dtype)
    if target is not None and np.shape(target) == outputs.shape:
        constant += np.asarray(target, outputs.dtype).mean(0)

    def evaluate(params, stats, batch, constant):  # an argument: XLA would spend seconds on folding a constant
        return asking(case.question.measure, lambda *_, **__: (constant, {}))(params, stats, batch).states[metric]

    baseline = jax.jit(evaluate)(params, stats, small, constant)
    classes = outputs.shape[-1] if metric == "loss" and outputs.ndim > 1 else None
    return ConstantBaseline(metric, float(answer.states[metric].value()), float(baseline.value()), classes)
