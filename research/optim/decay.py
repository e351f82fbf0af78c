"""Weight decay masks: select the parameters that weight decay applies to."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax

from research.core import Tree
from research.errors import UserError
from research.tree import path_name


def decay_mask(pattern: str = r"kernel$") -> Callable[[Tree], Tree]:
    """Make a mask for optax, `params -> tree of bool`: true if the regular expression matches in the parameter's path.

    Selects by path (`blocks/0/attention/q/kernel`), never by rank: biases or norm scales that are stacked over layers
    have the rank of a kernel. The default leaves out biases, norms, embeddings and positions. Raises UserError if the
    pattern matches no parameter.
    """

    def mask(params):
        selected = jax.tree.map_with_path(lambda path, _: bool(re.search(pattern, path_name(path))), params)
        if not any(jax.tree.leaves(selected)):
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            raise UserError(f"the decay pattern {pattern!r} matches no parameter. Some paths are {paths[:6]}.")
        return selected

    return mask
