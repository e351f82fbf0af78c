"""Uncertainty weighting: weight tasks by their learned (homoscedastic) noise variance."""

from __future__ import annotations

from collections.abc import Iterable

import jax.numpy as jnp

from research.core import Ctx, Model, Tree
from research.objectives.multi_task import TaskWeight

NAME = "task_log_variance"


def with_log_variances(model: Model, tasks: Iterable[str]) -> Model:
    """Add a trainable log sigma^2 per task, initially 0, to the params of a Model.

    Params are {"model": the model's, "task_log_variance": {task: f32}}, so the variances are trained, saved and resumed
    together with the weights. `apply` is the model's. Trap: weight decay would pull them to 0; `decay_mask()` excludes
    them, because it selects kernels only.
    """

    def init(key):
        params, stats = model.init(key)
        return {"model": params, NAME: {name: jnp.zeros((), jnp.float32) for name in tasks}}, stats

    def apply(params, stats, *inputs, key=None, train=False):
        return model.apply(params["model"], stats, *inputs, key=key, train=train)

    return Model(init, apply)


def uncertainty(params: Tree, ctx: Ctx) -> dict[str, TaskWeight]:
    """Weigh each task of `multi_task` by factor exp(-s) and offset s / 2, with s = log sigma^2 of the task.

    s comes from the params of `with_log_variances` (Kendall, Gal & Cipolla 2018: eq. 7 for a regression whose loss is
    half the squared error, eq. 10 for a classification by cross-entropy). For fixed model weights the optimal sigma^2
    is twice the task's mean loss over the available labels; for a regression, this is the mean squared error. The
    offset too counts only examples with a label, so this is the likelihood of all observed labels. The loss can be
    negative.
    """
    return {name: TaskWeight(jnp.exp(-s), s / 2) for name, s in params[NAME].items()}
