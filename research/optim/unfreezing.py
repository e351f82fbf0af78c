"""Gradual unfreezing: groups of parameters that an optimizer begins to train at given steps."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import optax

from research.errors import UserError, format_names
from research.tree import matching, path_name


def unfreezing(optimizer: optax.GradientTransformation, groups: Mapping[str, int]) -> optax.GradientTransformation:
    """Train each group of parameters from its step on (Howard & Ruder 2018, arXiv:1801.06146, section 3.3).

    `groups` is {pattern: optimizer step}; the first regular expression that matches (a search in the path) decides, and
    r"." is the rest: {r"^classifier/": 0, r"^blocks/3/": 100, r".": 200}. Before its step, a group has no update, and
    its state in the optimizer, such as moments, remains that of the start. Gradients are computed all the same; params
    that are never trained belong in `wrappers.frozen`. Limit: if all steps are 0, this is `optimizer`.

    A schedule inside `optimizer` also begins with the group. A learning rate that follows the run belongs outside:
    `optax.chain(unfreezing(optax.scale_by_adam(), groups), optax.scale_by_learning_rate(rate))`. Layers of a Stack are
    one array, and unfreeze together.

    Raises UserError for a negative step, for a pattern that is the first match of no parameter, and for a parameter
    that no pattern matches.
    """
    for pattern, step in groups.items():
        if step < 0:
            raise UserError(f"unfreezing: {pattern!r} begins at step {step}; expected at least 0.")

    def labels(params):
        names = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
        left = list(names)
        for pattern in groups:
            matching(pattern, names, owner="unfreezing:")
            if not (first := [name for name in left if re.search(pattern, name)]):
                raise UserError(f"unfreezing: every parameter that {pattern!r} matches belongs to an earlier pattern.")
            left = [name for name in left if name not in first]
        if left:
            raise UserError(f'unfreezing: no pattern matches {format_names(left)}; add r"." with a step for the rest.')
        of = lambda name: next(str(step) for pattern, step in groups.items() if re.search(pattern, name))
        return jax.tree.map_with_path(lambda path, _: of(path_name(path)), params)

    def from_step(first):
        return optax.conditionally_mask(optimizer, lambda step: step >= first)

    return optax.partition({str(step): from_step(step) for step in groups.values()}, labels)
