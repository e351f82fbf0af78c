"""Weight decay masks: select the parameters that weight decay applies to."""

from __future__ import annotations

from collections.abc import Callable

import jax

from research.core import Tree
from research.tree import matching, path_name, shapes


def decay_mask(pattern: str = r"kernel$") -> Callable[[Tree], Tree]:
    """Make a mask for optax, `params -> tree of bool`: true if the regular expression matches in the parameter's path.

    Selects by path (`blocks/0/attention/q/kernel`), never by rank: biases or norm scales that are stacked over layers
    have the rank of a kernel. The default leaves out biases, norms, embeddings and positions. Raises UserError if the
    pattern matches no parameter.
    """

    def mask(params):
        selected = set(matching(pattern, shapes(params), owner="decay_mask:"))
        return jax.tree.map_with_path(lambda path, _: path_name(path) in selected, params)

    return mask
