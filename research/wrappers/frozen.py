"""Frozen weights: exclude parameters from the optimizer and from every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from research.axes import Array, Key
from research.core import Model, Tree
from research.distributed.sharding import FROZEN
from research.tree import matching, path_name, shapes


def frozen(model: Model, pattern: str) -> Model:
    """Freeze the params whose path matches the regular expression `pattern` (a search).

    They move from params to `stats["frozen"]`: no gradient is computed for them, the optimizer stores no moments of
    them, and gradient estimators do not see them. Losses, evaluations and checkpoints work as before. The pattern
    r"^(?!classifier/|blocks/11/)" trains the last layers only: the backward pass then ends at the lowest of them.

    Raises UserError if the pattern matches no parameter, because that would be plain training.
    """

    def init(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        params, stats = model.init(key)
        selected = set(matching(pattern, shapes(params), owner="frozen:"))
        trainable, frozen_params = split_by_path(params, selected.__contains__)
        return trainable, {**stats, FROZEN: frozen_params}

    def apply(params: Tree, stats: Tree, *inputs, **options):
        return model.apply(*thawed(params, stats), *inputs, **options)

    return Model(init, apply)


def thawed(params: Tree, stats: Tree) -> tuple[Tree, Tree]:
    """Return the params with the frozen ones in their places, and the other stats: those of the model inside."""
    return merge_trees(params, stats[FROZEN]), {name: entry for name, entry in stats.items() if name != FROZEN}


def split_by_path(tree: dict, select: Callable, prefix: str = "") -> tuple[dict, dict]:
    """Split a tree into unselected and selected leaves by path, and drop empty branches."""
    unselected, selected = {}, {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            parts = split_by_path(value, select, name + "/")
        else:
            parts = ({}, value) if select(name) else (value, {})
        for side, part in zip((unselected, selected), parts, strict=True):
            if not (isinstance(part, dict) and not part):
                side[key] = part
    return unselected, selected


def merge_trees(a: dict, b: dict) -> dict:
    """Unite two nested dicts with different leaves: the inverse of `split_by_path`."""
    both = {key: merge_trees(a[key], b[key]) for key in a.keys() & b.keys()}
    return {**a, **b, **both}


def named_arrays(params: Tree, stats: Tree) -> dict[str, Any]:
    """Return {name: array} of params and stats. A name is a path such as `layers/0/kernel`, or `stats/model/norm/mean`.

    Frozen arrays have the names of params.
    """
    return {
        array_name(prefix, path): x
        for prefix, tree in (("", params), ("stats", stats))
        for path, x in jax.tree.leaves_with_path(tree)
    }


def with_arrays(arrays: dict[str, Any], params: Tree, stats: Tree) -> tuple[Tree, Tree]:
    """Return params and stats with some arrays replaced, {name: array}; names are those of `named_arrays`."""
    fill = lambda prefix, tree: jax.tree.map_with_path(lambda path, x: arrays.get(array_name(prefix, path), x), tree)
    return fill("", params), fill("stats", stats)


def array_name(prefix: str, path: tuple) -> str:
    """Return the name of the array at a key path of params (`prefix` "") or of stats ("stats")."""
    name = "/".join(part for part in (prefix, path_name(path)) if part)
    return name.removeprefix(f"stats/{FROZEN}/")
