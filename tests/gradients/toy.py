"""A small classifier with a counter and a running mean in its stats, and a ragged batch, for tests of gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Ctx, Model, draw
from research.objectives.classify import classify

RNG = np.random.default_rng(0)
BATCH = {
    "x": RNG.normal(size=(8, 3)).astype(np.float32),
    "y": RNG.integers(0, 4, 8),
    "mask": np.array([1, 1, 0, 1, 1, 0.5, 0, 1], np.float32),  # of four microbatches, and of four devices, one is empty
}
SORTED = {**BATCH, "mask": np.array([1, 1, 1, 0.5, 0, 0, 1, 0.3], np.float32)}  # rows 4, 5 are one device
KEY = jax.random.key(7)


def start(key):
    a, b = jax.random.split(jax.random.key(3))
    params = {
        "hidden": {"kernel": jax.random.normal(a, (3, 5)), "bias": jnp.full(5, 0.1, jnp.float32)},
        "head": {"kernel": jax.random.normal(b, (5, 4)), "bias": jnp.zeros(4)},
    }
    return params, {"seen": jnp.int32(0), "mean": jnp.zeros(3)}


def apply(params, stats, x, *, key=None, train=False, noise=0.0):
    seen = {"seen": stats["seen"] + 1, "mean": 0.5 * stats["mean"] + 0.5 * x.mean(0)} if train else {}
    if noise:
        x = x + noise * jax.random.normal(draw(key, "noise"), x.shape)
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"], seen


def noisy(params, stats, x, **how):
    return apply(params, stats, x, noise=1.0, **how)


MODEL = Model(start, apply)
PARAMS, STATS = jax.device_get(jax.jit(start)(KEY))
LOSS = classify(MODEL, inputs="x", labels="y")
NOISY = classify(noisy, inputs="x", labels="y")


def ctx(batch=BATCH, *, key=KEY, step=0, **stats):
    return Ctx(batch, {**STATS, **stats}, key, jnp.int32(step))


def poisoned(batch=BATCH):
    """The batch with nan in the rows that do not count: where all of a part is such, its gradient is nan."""
    return {**batch, "x": np.where(batch["mask"][:, None] == 0, np.nan, batch["x"])}


def close(found, expected, **how):
    """All leaves are equal within f32 rounding, and the trees have one form."""
    how = {"rtol": 2e-5, "atol": 1e-6, **how}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **how), found, expected)


def apart(a, b):
    """The largest distance between leaves of two trees."""
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.max(np.abs(np.asarray(x) - np.asarray(y)))), a, b)))
