"""Statistics of a model's activations, read from the jaxpr of its loss.

The loss is traced and its primitives are observed. This works for any model: no module needs an edit or a certain
library.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from research.core import Loss, Mean, merge
from research.tree import path_name

MAX_LAYERS = 32  # more would make a plot unreadable
FLAT = 0.01  # tanh and sigmoid are saturated within this fraction of their range from either end
RANGES = {"tanh": (-1.0, 1.0), "logistic": (0.0, 1.0)}
CALLS = ("jit", "pjit", "closed_call")
LINEAR = ("dot_general", "conv_general_dilated")


class Origin(NamedTuple):
    """The provenance of a value in the jaxpr.

    `data`: whether it depends on the batch. `layer`: the layer whose params it was last combined with. `when`: the
    order of that combination. `entry`: its index in the record if it is the result of a tanh or sigmoid.
    """

    data: bool = False
    layer: str | None = None
    when: int = -1
    entry: int | None = None


def layer_names(params) -> list[str]:
    """Return the layer name of every leaf: the path of its module, such as `layers/0` for `layers/0/kernel`.

    If there are more than MAX_LAYERS layers, paths are shortened as little as possible: to `blocks/0`, then `blocks`.
    """
    paths = [path_name(path).split("/") for path, _ in jax.tree.leaves_with_path(params)]
    modules = [path[:-1] or path for path in paths]
    cuts = [["/".join(path[:depth]) for path in modules] for depth in range(max(map(len, modules), default=0), 0, -1)]
    return next((cut for cut in cuts if len(set(cut)) <= MAX_LAYERS), cuts[-1] if cuts else [])


def watched(loss: Loss) -> Loss:
    """Wrap a Loss to add the metric `activations`, {statistic: {layer: Mean}}.

    Value, gradient and stats do not change. `mean` and `std` describe the output of a layer's matrix product or
    convolution, before the bias. `dead` is the fraction of units that are 0 after a ReLU for the entire batch. A unit
    is one index of the last axis: a channel is dead if it is 0 at every position of every image. `saturated` is the
    fraction of values after a tanh or sigmoid that lie within 1 % of an end of its range. A tanh or sigmoid whose
    result is multiplied by something is a gate (GELU, SiLU, LSTM). Gates are meant to close, so they are left out.

    A value belongs to the layer whose params it was last combined with. Operations inside a `lax.scan`, a
    `jax.checkpoint` or a custom gradient are computed as usual, but not observed.
    """

    def with_activations(params, ctx):
        closed, form = jax.make_jaxpr(loss, return_shape=True)(params, ctx)
        names = iter(layer_names(params))
        about = (
            jax.tree.map(lambda _: Origin(False, next(names), 0), params),
            jax.tree.map(lambda _: Origin(), ctx)._replace(
                batch=jax.tree.map(lambda _: Origin(True), ctx.batch), key=Origin(True)
            ),
        )
        record: list = []
        origin = jax.tree.leaves(about, is_leaf=lambda x: isinstance(x, Origin))
        results, _ = _walk(closed, jax.tree.leaves((params, ctx)), origin, record)
        value, out = jax.tree.unflatten(jax.tree.structure(form), results)
        return value, out._replace(metrics={**out.metrics, "activations": _summed(record)})

    return with_activations


def _summed(record):
    """Merge the entries of the record that were not withdrawn, per statistic and layer."""
    merged: dict[str, dict[str, Mean]] = {}
    for statistic, layer, state in filter(None, record):
        of = merged.setdefault(statistic, {})
        of[layer] = merge(of[layer], state) if layer in of else state
    return jax.lax.stop_gradient(merged)


def _walk(closed, values, origin, record):
    """Evaluate a ClosedJaxpr: (results, provenance of each). Appends (statistic, layer, Mean) to the record."""
    jaxpr = closed.jaxpr
    env = dict(zip(jaxpr.constvars, ((x, Origin()) for x in closed.consts), strict=True))
    env |= zip(jaxpr.invars, zip(values, origin, strict=True), strict=True)

    def read(atoms):
        pairs = [(x.val, Origin()) if isinstance(x, Literal) else env[x] for x in atoms]
        return [value for value, _ in pairs], [of for _, of in pairs]

    for eqn in jaxpr.eqns:
        operands, about = read(eqn.invars)
        if eqn.primitive.name in CALLS:
            results, origins = _walk(eqn.params["jaxpr"], operands, about, record)
        else:
            with eqn.ctx.manager:
                results = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
            results = results if eqn.primitive.multiple_results else [results]
            origins = [_origin(eqn, about, results, record)] * len(results)
        env |= zip(eqn.outvars, zip(results, origins, strict=True), strict=True)
    return read(jaxpr.outvars)


def _origin(eqn, about, results, record) -> Origin:
    """Return the provenance of an operation's results, from `about` its operands; record their statistics."""
    name, scalar = eqn.primitive.name, any(isinstance(x, Literal) for x in eqn.invars)
    if name == ("add" if scalar else "mul"):  # GELU contains 1 + tanh
        for of in about:
            if of.entry is not None:
                record[of.entry] = None
    data = any(of.data for of in about)
    params = [of for of in about if of.layer is not None and not of.data]
    origin = max((of for of in about if of.data == data), key=lambda of: of.when, default=Origin())
    origin = Origin(data, origin.layer, origin.when)
    if not data:
        return origin
    if params:
        origin = Origin(True, params[-1].layer, 1 + max(of.when for of in about))
    x = results[0]
    if origin.layer is None or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
        return origin
    note = lambda statistic, total, weight: record.append((statistic, origin.layer, Mean(total, jnp.float32(weight))))
    if params and name in LINEAR:
        wide = x.astype(jnp.float32)
        note("mean", wide.mean(), 1)
        note("std", wide.std(), 1)
    elif _is_relu(eqn):
        silent = jnp.all(x == 0, axis=tuple(range(x.ndim - 1)))
        note("dead", jnp.sum(silent, dtype=jnp.float32), silent.size)
    elif name in RANGES:
        low, high = (end + sign * FLAT * (RANGES[name][1] - RANGES[name][0])
                     for end, sign in zip(RANGES[name], (1, -1), strict=True))  # fmt: skip
        note("saturated", jnp.sum((x < low) | (x > high), dtype=jnp.float32), x.size)
        return origin._replace(entry=len(record) - 1)
    elif name == "mul" and scalar:
        return origin._replace(entry=next((of.entry for of in about if of.entry is not None), None))
    return origin


def _is_relu(eqn) -> bool:
    """Whether an equation is max(x, 0), directly or inside a function of jax.nn with a custom gradient."""
    if eqn.primitive.name == "custom_jvp_call":
        return any(map(_is_relu, eqn.params["call_jaxpr"].eqns))
    if eqn.primitive.name in CALLS:
        return any(map(_is_relu, eqn.params["jaxpr"].eqns))
    return eqn.primitive.name == "max" and any(isinstance(x, Literal) and x.val == 0 for x in eqn.invars)
