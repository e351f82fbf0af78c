"""The loss of a constant prediction, with which the initial loss of a model is compared."""

from typing import NamedTuple

import jax
import numpy as np

from research.core import Mean
from research.diagnose.case import Case, asking


class ConstantBaseline(NamedTuple):
    """The `metric` (loss or mse) of the small batch, for the outputs of the untrained model (`fresh`) and for one
    output for all examples (`constant`): 0, or the mean of the targets.
    """

    metric: str
    fresh: float
    constant: float
    classes: int | None


def constant_baseline(case: Case) -> ConstantBaseline | None:
    """The ConstantBaseline of an experiment; None where no evaluation gives a loss of the model's outputs."""
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

    def of_constant(params, stats, batch, constant):  # not closed over: XLA would spend seconds on folding it
        return asking(case.question.measure, lambda *_, **__: (constant, {}))(params, stats, batch).states[metric]

    baseline = jax.jit(of_constant)(params, stats, small, constant)
    classes = outputs.shape[-1] if metric == "loss" and outputs.ndim > 1 else None
    return ConstantBaseline(metric, float(answer.states[metric].value()), float(baseline.value()), classes)
