"""Names, shapes and dtypes of the arrays in a tree."""

from __future__ import annotations

import re
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from research.axes import PyTree
from research.errors import UserError, format_names, nearest


def path_name(path: tuple) -> str:
    """Format a key path of jax.tree as names with slashes, such as `params/layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matching(pattern: str, names: Collection[str], *, owner: str) -> list[str]:
    """Return the names of arrays in which the regular expression `pattern` is found.

    Raises UserError if there is none, with the nearest name; its message begins with `owner`.
    """
    if found := [name for name in names if re.search(pattern, name)]:
        return found
    names = sorted(names)
    raise UserError(
        f"{owner} {pattern!r} matches no parameter.{nearest(pattern, names)} Available: {format_names(names)}."
    )


def shapes(tree: PyTree) -> dict[str, str]:
    """Return {path: "float32[3,4]"} for every leaf of a tree with a shape and a dtype."""
    return {
        path_name(path): f"{np.dtype(x.dtype).name}{list(x.shape)}".replace(" ", "")
        for path, x in jax.tree.leaves_with_path(tree)
    }


def differences(before: PyTree, now: PyTree) -> str:
    """List, in one line, the arrays of two trees that differ in shape or dtype; "" if none does."""
    before, now = shapes(before), shapes(now)
    return ", ".join(
        f"{name} was {before.get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    )


def format_shapes(tree: PyTree) -> str:
    """Format the paths, shapes and dtypes of a tree in one line, for a message."""
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes(tree).items()))


def cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """Cast the floating-point arrays of a tree to `dtype`; integers and booleans are unchanged."""
    floating = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if floating(x) else x, tree)
