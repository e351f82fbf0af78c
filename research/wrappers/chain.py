"""Chains of models: an encoder and the models on top of it, each with its params under its name."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree, draw
from research.model import init_together


def chain(**models: Model) -> Model:
    """Feed the output of each model to the next, in the order of the arguments.

    Params are {name: params of that model}, stats are the union of all models' stats, and each model's key is folded
    with its name. Raises UserError if two models have the same stats entry.
    """

    def apply(params: Tree, stats: Tree, *inputs, key: Key[Array, ""] | None = None, train: bool = False):
        changed = {}
        for name, model in models.items():
            model_key = None if key is None else draw(key, name)
            outputs, new_stats = model.apply(params[name], stats, *inputs, key=model_key, train=train)
            changed, inputs = {**changed, **new_stats}, (outputs,)
        return outputs, changed

    return Model(init_together(**models), apply)


def part(model: Model | Callable, *path: str) -> Callable:
    """Make the `apply` of one submodel, which finds its params under the names `path` in the full params."""
    apply = getattr(model, "apply", model)
    return lambda params, *args, **options: apply(functools.reduce(operator.getitem, path, params), *args, **options)
