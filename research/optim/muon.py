"""Muon for matrix parameters and Adam for the rest, selected by path."""

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
    """Optimize params whose path matches `pattern` with Muon (Jordan et al. 2024), the rest with Nesterov Adam.

    A matched array is treated as a matrix: its last axis is the output, all other axes together are the input (a
    convolution kernel maps patches to channels). `iterations` Newton-Schulz steps bring its momentum close to the
    nearest orthogonal matrix. `weight_decay` applies to matched arrays only. Learning rates are numbers or schedules.

    If the path also matches `layers`, the first axis indexes layers (or experts: `layers=r"feed_forward/"`), each a
    separate matrix. Every further match of `layers` in the path adds one such leading axis. Raises UserError if
    `pattern` matches no parameter.
    """
    matched = decay_mask(pattern)

    def dimension_numbers(path: tuple, is_matched: bool, x: Float[Array, "..."]) -> contrib.MuonDimensionNumbers | None:
        num_stacked = len(re.findall(layers, path_name(path)))
        return contrib.MuonDimensionNumbers(tuple(range(num_stacked, x.ndim - 1)), x.ndim - 1) if is_matched else None

    def matrices(params):
        return jax.tree.map_with_path(dimension_numbers, matched(params), params)

    return contrib.muon(
        learning_rate, ns_steps=iterations, weight_decay=weight_decay, weight_decay_mask=matched,
        muon_weight_dimension_numbers=matrices, adam_learning_rate=adam_learning_rate, adam_b2=adam_b2,
    )  # fmt: skip
