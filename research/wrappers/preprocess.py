"""A model together with the fixed transformation of its inputs."""

from __future__ import annotations

from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree


def preprocessed(model: Model, prepare: Callable) -> Model:
    """The Model that sees `prepare(inputs)` in place of its first input.

    Thus a fixed part of the model (scaling pixels by the training set's mean) is the same in training, evaluation,
    prediction and export, which all go through `apply`.
    """

    def apply(params: Tree, stats: Tree, inputs, *others, key: Key[Array, ""] | None = None, train: bool = False):
        return model.apply(params, stats, prepare(inputs), *others, key=key, train=train)

    return Model(model.init, apply)
