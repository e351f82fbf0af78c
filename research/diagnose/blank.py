"""What an evaluation gives for a model that knows nothing, against which a fresh one is held."""

from typing import NamedTuple

import jax
import numpy as np

from research.core import Mean
from research.diagnose.subject import Subject, asking


class Blank(NamedTuple):
    """What the evaluation of the small batch gives for a model that knows nothing: its `metric` (loss or mse), the
    value with the fresh model's outputs, and the value with one answer for all: all outputs 0, or the targets' mean.
    """

    metric: str
    fresh: float
    constant: float
    classes: int | None


def blank(ready: Subject) -> Blank | None:
    """The Blank of an experiment; None where no evaluation gives a loss of the model's outputs."""
    if ready.question is None:
        return None
    params, stats, small = ready.state.params, ready.state.stats, ready.small
    answer = ready.question.ask(params, stats, small)
    metric = next((name for name in ("loss", "mse") if isinstance(answer.states.get(name), Mean)), None)
    if metric is None or not isinstance(answer.outputs, jax.Array):
        return None
    outputs, target = answer.outputs, small.get(ready.question.target)
    constant = np.zeros(outputs.shape, outputs.dtype)
    if target is not None and np.shape(target) == outputs.shape:
        constant += np.asarray(target, outputs.dtype).mean(0)

    def same(params, stats, batch, constant):  # not closed over: XLA would spend seconds on folding it
        return asking(ready.question.measure, lambda *_, **__: (constant, {}))(params, stats, batch).states[metric]

    alike = jax.jit(same)(params, stats, small, constant)
    classes = outputs.shape[-1] if metric == "loss" and outputs.ndim > 1 else None
    return Blank(metric, float(answer.states[metric].value()), float(alike.value()), classes)
