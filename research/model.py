"""The model interface: a pair of pure functions over plain nested dicts, and adapters for Flax NNX and Linen.

    init(key)                                            -> (params, stats)
    apply(params, stats, *inputs, key=None, train=False) -> (outputs, changed stats)

`Model(init, apply)` is the interface; `from_nnx` and `from_linen` convert Flax modules. A model stores its arrays that
are not trained (batch statistics) in `stats[name]`, and nothing else in `stats`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.axes import Array, Key, Shaped
from research.core import Model, Tree, draw
from research.errors import UserError
from research.tree import differences


def from_nnx(build: Callable, *, name: str = "model") -> Model:
    """Return a Model from `build(rngs) -> nnx.Module`, whose `__call__` accepts `(*inputs, train, rngs)`.

    Dropout must not store a random generator: create it as `nnx.Dropout(rate)`, and pass `rngs=rngs` when calling it.
    Its random streams are derived from `key`. Integer keys (layers in a list) become strings in the plain dicts.

    Raises UserError if the module stores random state.
    """
    from flax import nnx

    def split(key):
        graph, params, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    graph = like_params = like_stats = None

    def arrays(key):
        """Return params and all other arrays. The first call, which may be traced, stores the module structure."""
        nonlocal graph, like_params, like_stats
        new_graph, params, rest = split(key)
        if graph is None:
            for path, leaf in jax.tree.leaves_with_path(rest):
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    raise UserError(
                        f"the module stores random state at {jax.tree_util.keystr(path)}, which a checkpoint cannot "
                        "hold. Create nnx.Dropout(rate) without rngs, and pass rngs=rngs when calling it."
                    )
            like = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
            graph, like_params, like_stats = new_graph, like(params), like(rest)
        return params, rest

    def init(key):
        params, rest = arrays(key)
        rest = _with_string_keys(rest)
        return _with_string_keys(params), {name: rest} if rest else {}

    def apply(params, stats, *inputs, key=None, train=False):
        if graph is None:
            jax.eval_shape(arrays, jax.random.key(0))
        model_stats = stats.get(name, {})
        module = nnx.merge(graph, _with_keys_of(like_params, params), _with_keys_of(like_stats, model_stats), copy=True)
        rngs = nnx.Rngs(draw(key, name)) if key is not None else None
        outputs = module(*inputs, train=train, rngs=rngs)
        if not (train and model_stats):
            return outputs, {}
        rest = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate))))
        return outputs, {name: _with_string_keys(rest)}

    return Model(init, apply)


def from_linen(module: Any, *examples: Shaped[Array, "..."] | jax.ShapeDtypeStruct, name: str = "model") -> Model:
    """Return a Model from a `flax.linen` module whose `__call__` accepts `(*inputs, train)`.

    The module is initialised with zeros of the shapes and dtypes of `examples`. Every collection except "params" is
    stored in `stats`. Dropout uses the random stream "dropout".
    """

    def init(key):
        inputs = [jnp.zeros(x.shape, x.dtype) for x in examples]
        variables = dict(module.init({"params": key, "dropout": key}, *inputs, train=False))
        params = variables.pop("params", {})
        return params, {name: variables} if variables else {}

    def apply(params, stats, *inputs, key=None, train=False):
        model_stats = stats.get(name, {})
        rngs = {"dropout": draw(key, name)} if key is not None else None
        variables = {"params": params, **model_stats}
        if not (train and model_stats):
            return module.apply(variables, *inputs, train=train, rngs=rngs), {}
        outputs, changed = module.apply(variables, *inputs, train=train, rngs=rngs, mutable=list(model_stats))
        return outputs, {name: dict(changed)}

    return Model(init, apply)


def init_together(**models: Model) -> Callable[[Key[Array, ""]], tuple[Tree, Tree]]:
    """Return one `init` for several Models that are trained together: params {name: params of the model}, merged stats.

    Raises UserError if two models use the same stats entry; pass a different `name=` to `from_nnx` or `from_linen`.
    """

    def init(key):
        params, stats = {}, {}
        for name, model in models.items():
            params[name], model_stats = model.init(draw(key, name))
            if duplicates := set(model_stats) & set(stats):
                raise UserError(
                    f"two models use the stats entry {sorted(duplicates)[0]!r}; give the model {name!r} another name=."
                )
            stats |= model_stats
        return params, stats

    return init


def started(init_from: Callable, init: Callable, like: tuple[Tree, Tree], *, seed) -> tuple[Tree, Tree]:
    """Return the initial params and stats by `init_from(params, stats)`, which replaces shapes by arrays.

    `like` holds the shapes, with shardings, of the params and at least the stats of `init(seed)`. The initialisers draw
    the arrays that `init_from` leaves as shapes. No other initialiser is compiled or run.

    Raises UserError if `init_from` changes a name, a shape or a dtype.
    """
    _, own_stats = jax.eval_shape(init, seed)
    params, stats = like
    like = params, {name: stats[name] for name in own_stats}
    start = init_from(*like)
    if different := differences(like, start):
        raise UserError(f"init_from= must return params and stats of the shapes that it receives, but {different}.")
    leaves, tree = jax.tree.flatten(start)
    if left := [i for i, x in enumerate(leaves) if isinstance(x, jax.ShapeDtypeStruct)]:
        some = lambda seed: [jax.tree.leaves(init(seed))[i] for i in left]
        for i, x in zip(left, jax.jit(some, out_shardings=[leaves[i].sharding for i in left])(seed), strict=True):
            leaves[i] = x
    return tree.unflatten(leaves)


def _with_string_keys(tree: Tree) -> Tree:
    """Convert every key of a nested dict to a string."""
    return {str(k): _with_string_keys(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _with_keys_of(like: Tree, tree: Tree) -> Tree:
    """Restore the keys of `like` in `tree`: the inverse of `_with_string_keys`.

    Keys are matched by name, never by order: sorted as strings, layer 10 precedes layer 2.
    """
    return {k: _with_keys_of(v, tree[str(k)]) for k, v in like.items()} if isinstance(like, dict) else tree
