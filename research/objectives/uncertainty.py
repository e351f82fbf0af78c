"""Weighing tasks by the noise that the model itself finds in each: homoscedastic uncertainty."""

from __future__ import annotations

from collections.abc import Iterable

import jax.numpy as jnp

from research.core import Ctx, Model, Tree
from research.objectives.multi_task import Share

NAME = "task_log_variance"


def with_log_variances(model: Model, tasks: Iterable[str]) -> Model:
    """The Model that also holds log sigma^2 of each task, 0 at first: its params are {"model": the model's,
    "task_log_variance": {task: f32}}, so that they are trained, saved and resumed together; `apply` is the model's.

    Weight decay would pull them to 0: `decay_mask()` leaves them out, as it takes kernels only.
    """

    def init(key):
        params, stats = model.init(key)
        return {"model": params, NAME: {name: jnp.zeros((), jnp.float32) for name in tasks}}, stats

    def apply(params, stats, *inputs, key=None, train=False):
        return model.apply(params["model"], stats, *inputs, key=key, train=train)

    return Model(init, apply)


def uncertainty(params: Tree, ctx: Ctx) -> dict[str, Share]:
    """The Weigh of `multi_task` with factor exp(-s) and offset s / 2, s = log sigma^2 of the task, from the params
    of `with_log_variances` (Kendall, Gal & Cipolla 2018, eq. 7 for a regression whose loss is half the squared error,
    eq. 10 for a classification by cross-entropy).

    For a given model the best sigma^2 is twice the task's mean loss over the labels that there are: of a regression,
    the mean squared error. Only examples with a label count in the offset too, so this is the likelihood of all labels
    that were observed. The loss can be negative.
    """
    return {name: Share(jnp.exp(-s), s / 2) for name, s in params[NAME].items()}
