"""The common part of lora, adapters, prompt and prefix: a frozen model with new params beside its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from research.axes import Array, Key
from research.core import Model, Tree
from research.distributed.sharding import FROZEN
from research.errors import UserError
from research.tree import matching, path_name, shapes
from research.wrappers.frozen import merge_trees, split_by_path


class Kernel(NamedTuple):
    """The path of the kernel of a linear layer, [*layers, features, outputs], and its shape."""

    path: str
    layers: tuple[int, ...]
    features: int
    outputs: int


def frozen_beside(
    model: Model, add: Callable[[Key[Array, ""], Mapping[str, Array]], Mapping[str, Array]], *, owner: str,
    train: str | None,
) -> Callable[[Key[Array, ""]], tuple[Tree, Tree]]:  # fmt: skip
    """Return the `init` of a model whose own params are frozen, except those whose path matches `train`.

    `add(key, arrays)` returns the new params {path: array} for those of the model, {path: array}. Raises UserError if
    `train` matches no parameter, if a new param has the path of one of the model's, and if the model is already frozen.
    """

    def init(key):
        params, stats = model.init(key)
        if FROZEN in stats:
            raise UserError(f"{owner}: the model already has the stats entry {FROZEN!r}; use the model without it.")
        arrays = {path_name(path): x for path, x in jax.tree.leaves_with_path(params)}
        trained = set(matching(train, arrays, owner=f"{owner}: train")) if train is not None else set()
        added = add(key, arrays)
        if taken := sorted(added.keys() & arrays.keys()):
            raise UserError(f"{owner}: the model already has a parameter {taken[0]!r}; expected a model without it.")
        trainable, frozen_params = split_by_path(params, lambda name: name not in trained)
        for path, x in added.items():
            trainable = merge_trees(trainable, _nested(path, x))
        return trainable, {**stats, FROZEN: frozen_params}

    return init


def linear_kernels(pattern: str, arrays: Mapping[str, Array], *, owner: str, train: str | None) -> list[Kernel]:
    """Return the kernels of linear layers whose path matches `pattern`.

    Raises UserError if the pattern matches no parameter, anything else, or something that `train` matches.
    """
    kernels = []
    trained = matching(train, arrays, owner=f"{owner}: train") if train is not None else ()
    for path in matching(pattern, arrays, owner=f"{owner}: pattern"):
        if path in trained:
            raise UserError(f"{owner}: {pattern!r} and train={train!r} both match {path!r}; expected one of them.")
        *parents, last = path.split("/")
        shape = arrays[path].shape
        layers = shape[:1] if "stacked" in parents else ()
        if last != "kernel" or len(shape) != len(layers) + 2:
            raise UserError(
                f"{owner}: the pattern matches {path!r} of shape {shapes({path: arrays[path]})[path]}; expected only "
                "kernels of linear layers, which are matrices. End the pattern with 'kernel$'."
            )
        kernels.append(Kernel(path, layers, *shape[-2:]))
    return kernels


def beside(path: str, name: str) -> str:
    """Return the path of a sibling of the array at `path`."""
    return "/".join((*path.split("/")[:-1], name))


def change_layers(tree: Tree, names: tuple[str, ...], change: Callable[..., Tree]) -> Tree:
    """Replace each dict that has the entries `names` by `change(the other entries, *those entries)`."""
    if not isinstance(tree, dict):
        return tree
    rest = {name: change_layers(value, names, change) for name, value in tree.items() if name not in names}
    return change(rest, *(tree[name] for name in names)) if names[0] in tree else rest


def _nested(path: str, x: Array) -> Tree:
    tree = x
    for part in reversed(path.split("/")):
        tree = {part: tree}
    return tree
