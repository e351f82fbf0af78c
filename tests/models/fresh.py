"""Parameters for tests, without compiling a model's initialisers: that takes seconds for each random array on CPU."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from research.distributed.sharding import path_name


def fresh(model, *, scale: float = 0.3, seed: int = 0):
    """(params, stats) of a Model: normal numbers times `scale`; norms near 1, running statistics at their start.

    Frozen params, in `stats`, are params.
    """
    rng = np.random.default_rng(seed)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))

    def numbers(path, x):
        start = 1.0 if path_name(path).endswith("scale") else 0.0
        return jnp.asarray(start + scale * rng.normal(size=x.shape), jnp.float32)

    def begun(path, x):
        if path_name(path).startswith("frozen/"):
            return numbers(path, x)
        return jnp.asarray(np.full(x.shape, path_name(path).endswith("var")), x.dtype)

    return jax.tree.map_with_path(numbers, params), jax.tree.map_with_path(begun, stats)


def size(build) -> int:
    """The number of parameters of the module `build(rngs)`, by shape alone."""
    params = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(build(nnx.Rngs(0)), nnx.Param)))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def size_of_blocks(network, **sizes) -> int:
    """That of `network(**sizes)`, from one and two blocks: each further one adds as many, and takes time to trace."""
    depth = sizes.get("depth", inspect.signature(network.__init__).parameters["depth"].default)
    one, two = (size(lambda rngs, depth=depth: network(**{**sizes, "depth": depth}, rngs=rngs)) for depth in (1, 2))
    return one + (depth - 1) * (two - one)
