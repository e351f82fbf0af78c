"""Which parameters weight decay applies to."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax

from research.core import Tree
from research.errors import UserError
from research.tree import path_name


def decay_mask(pattern: str = r"kernel$") -> Callable[[Tree], Tree]:
    """A mask for optax, `params -> tree of bool`: true if the pattern is found in the parameter's path.

    By path (`blocks/0/attention/q/kernel`) and never by rank, which a bias stacked over layers, or a norm's scale,
    would fool. The default leaves out biases, norms, embeddings and positions. Raises UserError if the pattern matches
    nothing.
    """

    def mask(params):
        chosen = jax.tree.map_with_path(lambda path, _: bool(re.search(pattern, path_name(path))), params)
        if not any(jax.tree.leaves(chosen)):
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            raise UserError(f"the decay pattern {pattern!r} matches no parameter. Paths are like {paths[:6]}.")
        return chosen

    return mask
