"""Muon for what is a matrix, Adam for the rest, told apart by path."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import optax
from optax import contrib

from research.axes import Array, Float
from research.distributed.sharding import STACKED
from research.optim.decay import decay_mask
from research.tree import path_name


def muon(
    learning_rate: float | Callable, *, pattern: str = r"kernel$", adam_learning_rate: float | Callable,
    weight_decay: float = 0.0, iterations: int = 5, adam_b2: float = 0.999, layers: str = rf"(^|/){STACKED}/",
) -> optax.GradientTransformation:  # fmt: skip
    """Muon (Jordan et al. 2024) for params whose path matches `pattern`, Adam with Nesterov momentum for all others.

    A matched array is a matrix from all its axes but the last to the last one (a convolution's kernel: from its
    patches to its channels); its momentum is brought near the closest orthogonal matrix by `iterations` steps of
    Newton and Schulz, and it alone decays by `weight_decay`. Learning rates are numbers or schedules. If the path
    matches `layers` as well, the first axis is one of layers (or experts: `layers=r"feed_forward/"`), each a matrix of
    its own; so many first axes as there are matches. Raises UserError if the pattern matches nothing.
    """
    matched = decay_mask(pattern)

    def numbers(path: tuple, chosen: bool, x: Float[Array, "..."]) -> contrib.MuonDimensionNumbers | None:
        first = len(re.findall(layers, path_name(path)))
        return contrib.MuonDimensionNumbers(tuple(range(first, x.ndim - 1)), x.ndim - 1) if chosen else None

    def matrices(params):
        return jax.tree.map_with_path(numbers, matched(params), params)

    return contrib.muon(
        learning_rate, ns_steps=iterations, weight_decay=weight_decay, weight_decay_mask=matched,
        muon_weight_dimension_numbers=matrices, adam_learning_rate=adam_learning_rate, adam_b2=adam_b2,
    )  # fmt: skip
