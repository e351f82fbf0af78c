"""Input preprocessing: a model together with a fixed transformation of its inputs."""

from __future__ import annotations

from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree


def preprocessed(model: Model, prepare: Callable) -> Model:
    """Apply `prepare` to the Model's first input.

    A fixed part of the model, such as scaling pixels by the training set's mean, then runs identically in training,
    evaluation, prediction and export, because all of them call `apply`.
    """

    def apply(params: Tree, stats: Tree, inputs, *extra_inputs, key: Key[Array, ""] | None = None, train: bool = False):
        return model.apply(params, stats, prepare(inputs), *extra_inputs, key=key, train=train)

    return Model(model.init, apply)
