"""Keeping some weights as they are, out of the optimizer's and every gradient's reach."""

from __future__ import annotations

import re
from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree
from research.errors import UserError, listed
from research.tree import shapes

FROZEN = "frozen"  # the stats entry of the params that do not train


def frozen(model: Model, pattern: str) -> Model:
    """The same Model with the params whose path matches `pattern` (a search) kept as they are.

    They move from params to `stats["frozen"]`: no gradient is taken for them, the optimizer holds no moments of
    them, and no gradient estimator sees them; losses, evaluations and checkpoints go on as before. With a pattern
    that matches nothing this would be plain training: it raises UserError.
    """

    def init(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        params, stats = model.init(key)
        kept, moved = _divided(params, lambda name: re.search(pattern, name))
        if not moved:
            raise UserError(f"frozen: {pattern!r} matches no parameter. There are: {listed(sorted(shapes(params)))}.")
        return kept, {**stats, FROZEN: moved}

    def apply(params: Tree, stats: Tree, *inputs, **options):
        rest = {name: entry for name, entry in stats.items() if name != FROZEN}
        return model.apply(_joined(params, stats[FROZEN]), rest, *inputs, **options)

    return Model(init, apply)


def _divided(tree: dict, chosen: Callable, prefix: str = "") -> tuple[dict, dict]:
    """The tree without, and with only, the leaves whose path is `chosen`; empty branches are left out."""
    kept, moved = {}, {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            parts = _divided(value, chosen, name + "/")
        else:
            parts = ({}, value) if chosen(name) else (value, {})
        for side, part in zip((kept, moved), parts, strict=True):
            if not (isinstance(part, dict) and not part):
                side[key] = part
    return kept, moved


def _joined(a: dict, b: dict) -> dict:
    both = {key: _joined(a[key], b[key]) for key in a.keys() & b.keys()}
    return {**a, **b, **both}
