"""Names for what lies in a tree of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from research.axes import PyTree


def path_name(path: tuple) -> str:
    """A key path of jax.tree as names with slashes: `params/layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shapes(tree: PyTree) -> dict[str, str]:
    """{path: "float32[3,4]"} for every array of a tree (or for what has a shape and a dtype)."""
    return {
        path_name(path): f"{np.dtype(x.dtype).name}{list(x.shape)}".replace(" ", "")
        for path, x in jax.tree.leaves_with_path(tree)
    }


def differences(before: PyTree, now: PyTree) -> str:
    """In one line, the arrays of two trees whose shape or type differs; "" if none does."""
    before, now = shapes(before), shapes(now)
    return ", ".join(
        f"{name} was {before.get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    )


def described(tree: PyTree) -> str:
    """The same in one line, for a message."""
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes(tree).items()))


def cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """The floating-point arrays of a tree in `dtype`; integers and booleans as they are."""
    floating = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if floating(x) else x, tree)
