"""The one door through which models enter: a pair of pure functions over plain nested dicts.

    init(key)                                         -> (params, stats)
    apply(params, stats, *inputs, key=None, train=False) -> (outputs, changed stats)

`Model(init, apply)` is the door itself; `from_nnx` and `from_linen` bring modules through it. A model keeps
what is not trained (batch statistics) in `stats[name]` and nothing else there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.axes import Array, Key, Shaped
from research.core import Model, Tree, draw
from research.errors import UserError


def from_nnx(build: Callable, *, name: str = "model") -> Model:
    """A Model from `build(rngs) -> nnx.Module`, whose call takes `(*inputs, train, rngs)`.

    Dropout must hold no generator: make it `nnx.Dropout(rate)` and pass `rngs=rngs` where it is called; the
    streams are folded from `key`. Integer keys (layers in a list) become strings in the plain dicts.

    Raises UserError if the module stores random state.
    """
    from flax import nnx

    def split(key):
        graph, params, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    graph = like_params = like_stats = None

    def arrays(key):
        """Params and the rest. The first call, which may be traced, keeps the structure of the module."""
        nonlocal graph, like_params, like_stats
        made, params, rest = split(key)
        if graph is None:
            for path, leaf in jax.tree.leaves_with_path(rest):
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    raise UserError(
                        f"the module stores random state at {jax.tree_util.keystr(path)}, which may not be kept in "
                        "a checkpoint. Make it nnx.Dropout(rate) without rngs, and pass rngs=rngs at the call."
                    )
            like = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
            graph, like_params, like_stats = made, like(params), like(rest)
        return params, rest

    def init(key):
        params, rest = arrays(key)
        rest = _named(rest)
        return _named(params), {name: rest} if rest else {}

    def apply(params, stats, *inputs, key=None, train=False):
        if graph is None:
            jax.eval_shape(arrays, jax.random.key(0))
        mine = stats.get(name, {})
        module = nnx.merge(graph, _numbered(params, like_params), _numbered(mine, like_stats), copy=True)
        rngs = nnx.Rngs(draw(key, name)) if key is not None else None
        outputs = module(*inputs, train=train, rngs=rngs)
        if not (train and mine):
            return outputs, {}
        rest = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate))))
        return outputs, {name: _named(rest)}

    return Model(init, apply)


def from_linen(module: Any, *examples: Shaped[Array, "..."] | jax.ShapeDtypeStruct, name: str = "model") -> Model:
    """A Model from a `flax.linen` module whose call takes `(*inputs, train)`.

    It is initialised with inputs like `examples`. Every collection but "params" is kept in stats; dropout draws from
    the stream "dropout".
    """

    def init(key):
        inputs = [jnp.zeros(x.shape, x.dtype) for x in examples]
        variables = dict(module.init({"params": key, "dropout": key}, *inputs, train=False))
        params = variables.pop("params", {})
        return params, {name: variables} if variables else {}

    def apply(params, stats, *inputs, key=None, train=False):
        mine = stats.get(name, {})
        rngs = {"dropout": draw(key, name)} if key is not None else None
        variables = {"params": params, **mine}
        if not (train and mine):
            return module.apply(variables, *inputs, train=train, rngs=rngs), {}
        outputs, changed = module.apply(variables, *inputs, train=train, rngs=rngs, mutable=list(mine))
        return outputs, {name: dict(changed)}

    return Model(init, apply)


def together(**models: Model) -> Callable[[Key[Array, ""]], tuple[Tree, Tree]]:
    """The `init` of several Models that are trained as one: params {name: the model's}, and the stats of all.

    Raises UserError if two keep the same stats entry: give `from_nnx` a name.
    """

    def init(key):
        params, stats = {}, {}
        for name, model in models.items():
            params[name], mine = model.init(draw(key, name))
            if taken := set(mine) & set(stats):
                raise UserError(
                    f"two models keep the stats entry {sorted(taken)[0]!r}; give {name!r} a name of its own."
                )
            stats |= mine
        return params, stats

    return init


def _named(tree: Tree) -> Tree:
    """The tree with every key a string."""
    return {str(k): _named(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _numbered(tree: Tree, like: Tree) -> Tree:
    """The tree with the keys of `like`. By name, never by order: sorted as strings, layer 10 precedes layer 2."""
    return {k: _numbered(tree[str(k)], v) for k, v in like.items()} if isinstance(like, dict) else tree
