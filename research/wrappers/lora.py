"""LoRA: train low-rank updates of chosen kernels, while the model's own params are frozen."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key
from research.core import Model, Tree, draw
from research.distributed.sharding import FROZEN
from research.errors import UserError
from research.layers.linear import TunedKernel
from research.wrappers.frozen import thawed
from research.wrappers.tuned import beside, change_layers, frozen_beside, linear_kernels

LORA = "lora"  # the stats entry that holds the scale, alpha / rank
FACTORS = ("lora_a", "lora_b")  # siblings of their kernel


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

    def add(key, arrays):
        factors = {}
        for kernel in linear_kernels(pattern, arrays, owner="lora", train=train):
            path, layers, features, outputs = kernel
            if not 1 <= rank <= min(features, outputs):
                shape = arrays[path].shape
                raise UserError(f"lora(rank={rank}): expected 1 to {min(features, outputs)} for {path!r} {shape}.")
            dtype = arrays[path].dtype
            a = jax.random.normal(draw(key, f"lora/{path}"), (*layers, features, rank), dtype)
            b = jnp.zeros((*layers, rank, outputs), dtype)
            a = a / jnp.sqrt(features).astype(dtype)
            factors |= {beside(path, name): x for name, x in zip(FACTORS, (a, b), strict=True)}
        return factors

    init_frozen = frozen_beside(model, add, owner="lora", train=train)

    def init(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        params, stats = init_frozen(key)
        return params, {**stats, LORA: {"scale": jnp.float32(alpha / rank)}}

    def apply(params: Tree, stats: Tree, *inputs, **options):
        full, model_stats = thawed(params, stats)
        scale = model_stats.pop(LORA)["scale"]
        return model.apply(change_layers(full, FACTORS, _tuned(scale)), model_stats, *inputs, **options)

    return Model(init, apply)


def merged(params: Tree, stats: Tree) -> Tree:
    """Return the params of the model inside `lora`, with each kernel W replaced by W + (alpha / rank) a b.

    They fit the wrapped model, its export and its serving. Raises UserError if the stats are not those of `lora`.
    """
    if missing := {FROZEN, LORA} - set(stats):
        raise UserError(f"merged: the stats have no entry {min(missing)!r}; expected the stats of lora(...).")
    add = lambda tuned: tuned.kernel + jnp.matmul(tuned.parts["a"], tuned.parts["b"], precision="highest")
    tree = change_layers(thawed(params, stats)[0], FACTORS, _tuned(stats[LORA]["scale"]))
    is_tuned = lambda x: isinstance(x, TunedKernel)
    return jax.tree.map(lambda x: add(x) if is_tuned(x) else x, tree, is_leaf=is_tuned)


def _tuned(scale):
    """Return the change of a layer with factors: its kernel becomes one with (a, scale * b)."""

    def change(layer, a, b):
        parts = {"a": a, "b": b * scale.astype(b.dtype)}
        return {**layer, "kernel": TunedKernel(layer["kernel"], parts, low_rank)}

    return change


def low_rank(
    dot, x: Float[Array, "*batch features"], kernel: Float[Array, "features outputs"], *,
    a: Float[Array, "features rank"], b: Float[Array, "rank outputs"],
) -> Float[Array, "*batch outputs"]:  # fmt: skip
    """Compute x kernel + (x a) b: the sum kernel + a b is never formed, neither forward nor for a gradient."""
    return dot(x, kernel) + dot(dot(x, a).astype(x.dtype), b)
