"""Losses for classes that are leaves of a tree: a mistake within a branch is less severe than one across branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Int, Integer
from research.errors import UserError, unknown
from research.losses.classification import cross_entropy


def ancestors(parents: Mapping[str, str], classes: tuple[str, ...]) -> Int[np.ndarray, "layers classes"]:
    """Return the branch of each class at each height: row 0 has the classes, the last row is the root.

    `parents` is {node: its parent} for all nodes but the root. Paths to the root must have the same length for all
    classes; insert a node with a single child where one is shorter. Raises UserError for a class without a parent, a
    cycle, several roots, and paths of different lengths.
    """
    paths = []
    for name in classes:
        path = [name]
        while path[-1] in parents:
            path.append(parents[path[-1]])
            if len(path) > len(parents) + 1:
                raise UserError(f"the parents of {name!r} form a cycle: {' -> '.join(path[:6])}.")
        if len(path) == 1:
            raise unknown("class of the tree", name, parents)
        if paths and (len(path) != len(paths[0]) or path[-1] != paths[0][-1]):
            raise UserError(
                f"the path {' -> '.join(path)} does not fit {' -> '.join(paths[0])}; expected the same length and root."
            )
        paths.append(path)
    return np.stack([np.unique(level, return_inverse=True)[1] for level in zip(*paths, strict=True)])


def hierarchical(tree: Int[np.ndarray, "layers classes"], *, alpha: float = 0.1) -> Callable:
    """Return the hierarchical cross-entropy (logits, labels) -> loss per example (Bertinetto et al. 2020, equation 3).

    `tree` is that of `ancestors`. The probability of a node is the sum over its leaves, and the loss is
    -sum_l exp(-alpha l) log p(node at height l | its parent) along the path of the label. With alpha 0 it equals the
    cross-entropy. The larger alpha, the more the decision between leaves counts, compared with decisions near the root.
    A label out of range gives NaN. Raises UserError for a tree without a common root, and for another number of
    classes.
    """
    tree = np.asarray(tree)
    if tree.ndim != 2 or len(set(tree[-1].tolist())) != 1:
        raise UserError(f"the tree is {list(tree.shape)} with {len(set(tree[-1].tolist()))} roots; see ancestors().")
    same = tree[:, :, None] == tree[:, None]  # [layers, label, leaf]

    def loss(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
        if logits.shape[-1] != tree.shape[1]:
            raise UserError(f"a tree of {tree.shape[1]} classes for logits of {logits.shape[-1]}.")
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        inside = jnp.asarray(same)[:, jnp.clip(labels, 0, tree.shape[1] - 1)]
        nodes = jax.nn.logsumexp(jnp.where(inside, log_p, -jnp.inf), -1)
        steps = jnp.exp(-alpha * jnp.arange(len(tree) - 1)).reshape(-1, *[1] * labels.ndim)
        total = -jnp.sum(steps * (nodes[:-1] - nodes[1:]), 0)
        return jnp.where(jnp.isnan(cross_entropy(logits, labels)), jnp.nan, total)

    return loss
