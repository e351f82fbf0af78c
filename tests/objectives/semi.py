"""A linear model and a batch of labelled and unlabelled examples, which the tests of learning from few labels share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Ctx

RNG = np.random.default_rng(1)
B, MU, D, C = 4, 3, 5, 3
X = RNG.normal(size=(B, D)).astype(np.float32)
U = RNG.normal(size=(B, MU, D)).astype(np.float32)
Y = RNG.integers(C, size=B)
W = RNG.normal(size=(D, C)).astype(np.float32)
BATCH = {"image": X, "label": Y, "unlabelled": U}


def linear(params, stats, x, *, key=None, train=False):
    return x @ params, {"seen": stats["seen"] + len(x)}


@functools.cache
def compiled(loss):
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def run(loss, batch=BATCH, *, key=0, step=0):
    """(value, out, gradient) of a loss."""
    ctx = Ctx(batch, {"seen": jnp.int32(4)}, jax.random.key(key), jnp.int32(step))
    (value, out), grads = compiled(loss)(W, ctx)
    return value, out, grads


def noise(scale):
    """An augmentation that adds normal noise."""

    def augment(key, batch):
        return {**batch, "image": batch["image"] + scale * jax.random.normal(key, batch["image"].shape)}

    return augment


def identity(key, batch):
    return batch


def padded():
    """The batch with two rows of padding, whose unlabelled examples are padding too; and what is left of it."""
    mask = np.array([1, 0, 1, 0])
    spoilt = {"image": X.copy(), "unlabelled": U.copy()}
    for field in spoilt.values():
        field[mask == 0] = 1e3
    return {**BATCH, **spoilt, "mask": mask}, {name: field[mask == 1] for name, field in BATCH.items()}
