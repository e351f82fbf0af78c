"""LoRA: train low-rank updates of chosen kernels, while the model's own params are frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from research.axes import Array, Key
from research.core import Model, Tree, draw
from research.errors import UserError, format_names, nearest
from research.layers.linear import LowRank
from research.tree import path_name, shapes
from research.wrappers.frozen import FROZEN, merge_trees, split_by_path

LORA = "lora"  # the stats entry that holds the scale, alpha / rank
A, B = "lora_a", "lora_b"  # the factors, siblings of their kernel


def lora(model: Model, pattern: str, *, rank: int = 8, alpha: float = 16.0, train: str | None = None) -> Model:
    """Fine-tune the kernels whose path matches the regular expression `pattern` (a search) by low-rank updates.

    A kernel W [in, out] becomes W + (alpha / rank) a b (Hu et al. 2021, arXiv:2106.09685, section 4.1). Its siblings
    `lora_a` [in, rank], normal with variance 1 / in, and `lora_b` [rank, out], zeros, are trained. The model at the
    start therefore equals `model`. In a Stack, both have a leading axis of layers. The other params whose path matches
    `train`, such as a new head, are trained as they are. All remaining params move to `stats["frozen"]`, as in
    `frozen`, and `stats["lora"]` holds the scale; no gradient of a frozen kernel is computed.

    Apply `mixed_precision` inside: `lora(mixed_precision(model), ...)`. It casts params only, and frozen kernels are
    stats. The kernels must belong to `research.layers.linear.Linear`. Raises UserError if a pattern matches no
    parameter, if `pattern` matches anything but the kernel of a linear layer or something that `train` matches, if the
    rank is not between 1 and the smaller side of each kernel, and if the model is already frozen.
    """

    def init(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        params, stats = model.init(key)
        if taken := {FROZEN, LORA} & set(stats):
            raise UserError(f"lora: the model already has the stats entry {min(taken)!r}; use the model without it.")
        arrays = {path_name(path): x for path, x in jax.tree.leaves_with_path(params)}
        selected = _matches("pattern", pattern, arrays)
        trained = _matches("train", train, arrays) if train is not None else []
        if both := sorted(set(selected) & set(trained)):
            raise UserError(f"lora: {pattern!r} and train={train!r} both match {both[0]!r}; expected one of them.")
        trainable, frozen_params = split_by_path(params, lambda name: name not in trained)
        for name in selected:
            trainable = merge_trees(trainable, _factors(draw(key, f"lora/{name}"), name, arrays[name], rank))
        return trainable, {**stats, FROZEN: frozen_params, LORA: {"scale": jnp.float32(alpha / rank)}}

    def apply(params: Tree, stats: Tree, *inputs, **options):
        model_stats = {name: entry for name, entry in stats.items() if name not in (FROZEN, LORA)}
        full = _with_factors(merge_trees(params, stats[FROZEN]), stats[LORA]["scale"], LowRank)
        return model.apply(full, model_stats, *inputs, **options)

    return Model(init, apply)


def merged(params: Tree, stats: Tree) -> Tree:
    """Return the params of the model inside `lora`, with each kernel W replaced by W + (alpha / rank) a b.

    They fit the wrapped model, its export and its serving. Raises UserError if the stats are not those of `lora`.
    """
    if missing := {FROZEN, LORA} - set(stats):
        raise UserError(f"merged: the stats have no entry {min(missing)!r}; expected the stats of lora(...).")
    add = lambda kernel, a, b: kernel + jnp.matmul(a, b, precision="highest")
    return _with_factors(merge_trees(params, stats[FROZEN]), stats[LORA]["scale"], add)


def _matches(argument: str, pattern: str, arrays: Mapping) -> list[str]:
    if found := [name for name in arrays if re.search(pattern, name)]:
        return found
    names = sorted(arrays)
    raise UserError(
        f"lora: {argument} {pattern!r} matches no parameter.{nearest(pattern, names)} Available: {format_names(names)}."
    )


def _factors(key: Key[Array, ""], name: str, kernel: Array, rank: int) -> Tree:
    """Return a nested dict with the initial factors of the kernel `name`."""
    *parents, last = name.split("/")
    layers = kernel.shape[:1] if "stacked" in parents else ()
    if last != "kernel" or kernel.ndim != len(layers) + 2:
        raise UserError(
            f"lora: the pattern matches {name!r} of shape {shapes({name: kernel})[name]}; expected only kernels of "
            "linear layers, which are matrices. End the pattern with 'kernel$'."
        )
    features, outputs = kernel.shape[-2:]
    if not 1 <= rank <= min(features, outputs):
        raise UserError(f"lora(rank={rank}): expected 1 to {min(features, outputs)} for {name!r} {kernel.shape}.")
    a = jax.random.normal(key, (*layers, features, rank), kernel.dtype) / jnp.sqrt(features).astype(kernel.dtype)
    tree = {A: a, B: jnp.zeros((*layers, rank, outputs), kernel.dtype)}
    for parent in reversed(parents):
        tree = {parent: tree}
    return tree


def _with_factors(tree: Tree, scale: Array, combine) -> Tree:
    """Replace each kernel that has factors by `combine(kernel, a, scale * b)`, and drop the factors."""
    if not isinstance(tree, dict):
        return tree
    rest = {name: _with_factors(value, scale, combine) for name, value in tree.items() if name not in (A, B)}
    if A in tree:
        b = tree[B] * scale.astype(tree[B].dtype)
        rest["kernel"] = combine(tree["kernel"], tree[A], b)
    return rest
