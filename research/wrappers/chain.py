"""Models in a row: an encoder and the models on top of it, with the params of each under its name."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree, draw
from research.model import together


def chain(**models: Model) -> Model:
    """The Model that feeds the output of each model to the next, in the order given.

    Params are {name: the model's}, the stats are those of all, and each model's key is folded with its name. Raises
    UserError if two models keep the same stats entry.
    """

    def apply(params: Tree, stats: Tree, *inputs, key: Key[Array, ""] | None = None, train: bool = False):
        changed = {}
        for name, model in models.items():
            folded = None if key is None else draw(key, name)
            outputs, entries = model.apply(params[name], stats, *inputs, key=folded, train=train)
            changed, inputs = {**changed, **entries}, (outputs,)
        return outputs, changed

    return Model(together(**models), apply)


def part(model: Model | Callable, *path: str) -> Callable:
    """The `apply` of one model of several: it finds its params at `path` (names) in the params of the whole."""
    apply = getattr(model, "apply", model)
    return lambda params, *args, **options: apply(functools.reduce(operator.getitem, path, params), *args, **options)
