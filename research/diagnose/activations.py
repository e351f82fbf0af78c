"""What happens inside a model while its loss is computed, for any model: the loss is traced, and its own primitives
are watched, so that no module has to be edited or to come from a certain library.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from research.core import Loss, Mean, merge
from research.tree import path_name

MOST = 32  # layers, so that a plot can be read
FLAT = 0.01  # of its range: so near to an end, tanh and sigmoid are saturated
RANGES = {"tanh": (-1.0, 1.0), "logistic": (0.0, 1.0)}
CALLS = ("jit", "pjit", "closed_call")
LINEAR = ("dot_general", "conv_general_dilated")


class Known(NamedTuple):
    """What is known of a value: whether it depends on the `data`; the `layer` whose params it met last, and `when`;
    the number of the `entry` in the record where it is the result of a tanh or sigmoid.
    """

    data: bool = False
    layer: str | None = None
    when: int = -1
    entry: int | None = None


def layer_names(params) -> list[str]:
    """The layer of every leaf: the path of its module, `layers/0` for `layers/0/kernel`. Where there are more than MOST
    layers, paths are cut as little as makes them fewer: to `blocks/0`, say, then to `blocks`.
    """
    paths = [path_name(path).split("/") for path, _ in jax.tree.leaves_with_path(params)]
    modules = [path[:-1] or path for path in paths]
    cuts = [["/".join(path[:depth]) for path in modules] for depth in range(max(map(len, modules), default=0), 0, -1)]
    return next((cut for cut in cuts if len(set(cut)) <= MOST), cuts[-1] if cuts else [])


def watched(loss: Loss) -> Loss:
    """The same Loss, of the same value, gradient and stats, with one metric more: `activations`
    {statistic: {layer: Mean}}.

    `mean` and `std` are of what a layer's matrix product or convolution gives, before the bias. `dead` is the share of
    units that are 0 after a ReLU for the whole batch; a unit is one place of the last axis, so that a channel is dead
    where it is 0 at every place of every image. `saturated` is the share of values after a tanh or sigmoid that are
    within 1 % of an end of its range; one that is multiplied with something is a gate (of GELU, SiLU or an LSTM), made
    to be closed, and is left out.

    A value belongs to the layer whose params it met last. What happens within a `lax.scan`, a `jax.checkpoint` or a
    custom gradient is computed as ever, but not seen.
    """

    def with_activations(params, ctx):
        closed, form = jax.make_jaxpr(loss, return_shape=True)(params, ctx)
        names = iter(layer_names(params))
        about = (
            jax.tree.map(lambda _: Known(False, next(names), 0), params),
            jax.tree.map(lambda _: Known(), ctx)._replace(
                batch=jax.tree.map(lambda _: Known(True), ctx.batch), key=Known(True)
            ),
        )
        record: list = []
        known = jax.tree.leaves(about, is_leaf=lambda x: isinstance(x, Known))
        results, _ = _walk(closed, jax.tree.leaves((params, ctx)), known, record)
        value, out = jax.tree.unflatten(jax.tree.structure(form), results)
        return value, out._replace(metrics={**out.metrics, "activations": _summed(record)})

    return with_activations


def _summed(record):
    """The entries of the record that are left, those of one statistic and layer added up."""
    found: dict[str, dict[str, Mean]] = {}
    for statistic, layer, state in filter(None, record):
        of = found.setdefault(statistic, {})
        of[layer] = merge(of[layer], state) if layer in of else state
    return jax.lax.stop_gradient(found)


def _walk(closed, values, known, record):
    """Evaluates a ClosedJaxpr: its results, and what is Known of each. Adds (statistic, layer, Mean) to the record."""
    jaxpr = closed.jaxpr
    env = dict(zip(jaxpr.constvars, ((x, Known()) for x in closed.consts), strict=True))
    env |= zip(jaxpr.invars, zip(values, known, strict=True), strict=True)

    def read(atoms):
        pairs = [(x.val, Known()) if isinstance(x, Literal) else env[x] for x in atoms]
        return [value for value, _ in pairs], [of for _, of in pairs]

    for eqn in jaxpr.eqns:
        given, about = read(eqn.invars)
        if eqn.primitive.name in CALLS:
            results, learnt = _walk(eqn.params["jaxpr"], given, about, record)
        else:
            with eqn.ctx.manager:
                results = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(eqn.params))
            results = results if eqn.primitive.multiple_results else [results]
            learnt = [_learnt(eqn, about, results, record)] * len(results)
        env |= zip(eqn.outvars, zip(results, learnt, strict=True), strict=True)
    return read(jaxpr.outvars)


def _learnt(eqn, about, results, record) -> Known:
    """What is Known of the results of an operation on values of which we know `about`; records them where it counts."""
    name, scalar = eqn.primitive.name, any(isinstance(x, Literal) for x in eqn.invars)
    if name == ("add" if scalar else "mul"):  # GELU holds 1 + tanh
        for of in about:
            if of.entry is not None:
                record[of.entry] = None
    data = any(of.data for of in about)
    params = [of for of in about if of.layer is not None and not of.data]
    known = max((of for of in about if of.data == data), key=lambda of: of.when, default=Known())
    known = Known(data, known.layer, known.when)
    if not data:
        return known
    if params:
        known = Known(True, params[-1].layer, 1 + max(of.when for of in about))
    x = results[0]
    if known.layer is None or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
        return known
    note = lambda statistic, total, weight: record.append((statistic, known.layer, Mean(total, jnp.float32(weight))))
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
        return known._replace(entry=len(record) - 1)
    elif name == "mul" and scalar:
        return known._replace(entry=next((of.entry for of in about if of.entry is not None), None))
    return known


def _is_relu(eqn) -> bool:
    """Whether it is max(x, 0), or one of jax.nn's functions that have a gradient of their own and are just that."""
    if eqn.primitive.name == "custom_jvp_call":
        return any(map(_is_relu, eqn.params["call_jaxpr"].eqns))
    if eqn.primitive.name in CALLS:
        return any(map(_is_relu, eqn.params["jaxpr"].eqns))
    return eqn.primitive.name == "max" and any(isinstance(x, Literal) and x.val == 0 for x in eqn.invars)
