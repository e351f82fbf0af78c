"""Muon's update against its definition: the orthogonal factor of the momentum, by a singular value decomposition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.optim.muon import muon

RNG = np.random.default_rng(0)
PARAMS = {"conv": {"kernel": np.zeros((3, 3, 4, 8)), "bias": np.zeros(8)}, "head": {"kernel": np.zeros((8, 5))}}
PARAMS = jax.tree.map(np.float32, PARAMS)
# The channels differ in size by a factor of twenty, so that the gradient is far from orthogonal.
GRADS = jax.tree.map(lambda x: np.float32(RNG.normal(size=x.shape) * np.geomspace(1, 0.05, x.shape[-1])), PARAMS)


def update(params=PARAMS, **options):
    optimizer = muon(1.0, pattern=r"conv/kernel$", adam_learning_rate=1e-2, **options)
    return jax.device_get(jax.jit(lambda p: optimizer.update(GRADS, optimizer.init(p), p)[0])(params))


def test_a_kernel_moves_along_the_orthogonal_factor_of_its_gradient():
    gradient = np.asarray(GRADS["conv"]["kernel"]).reshape(36, 8)
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    cosine = lambda a: np.sum(a * (left @ right)) / np.linalg.norm(a) / np.linalg.norm(left @ right)
    moved = -np.asarray(update()["conv"]["kernel"]).reshape(36, 8)
    # The iteration's coefficients bring singular values between about 0.7 and 1.2, not to 1.
    assert cosine(moved) > 0.95 > 0.85 > cosine(gradient)
    values = np.linalg.svd(moved, compute_uv=False)
    assert values.max() / values.min() < 2 < 10 < np.linalg.cond(gradient)


def test_what_is_not_matched_is_adams():
    adam = optax.adam(1e-2, nesterov=True)
    expected = jax.jit(lambda: adam.update(GRADS, adam.init(PARAMS))[0])()
    found = update()
    np.testing.assert_allclose(found["head"]["kernel"], expected["head"]["kernel"], rtol=1e-4)
    np.testing.assert_allclose(found["conv"]["bias"], expected["conv"]["bias"], rtol=1e-4)


def test_only_what_is_matched_decays():
    ones = jax.tree.map(np.ones_like, PARAMS)
    with_decay, without = update(ones, weight_decay=0.5), update(ones)
    np.testing.assert_allclose(with_decay["conv"]["kernel"] - without["conv"]["kernel"], -0.5, rtol=1e-3)
    np.testing.assert_array_equal(with_decay["head"]["kernel"], without["head"]["kernel"])
    with pytest.raises(UserError, match="matches no parameter"):
        muon(1.0, pattern="nowhere", adam_learning_rate=1.0).init(PARAMS)


def test_stacked_layers_are_matrices_of_their_own():
    gradient = np.float32(RNG.normal(size=(3, 6, 4)))

    @functools.partial(jax.jit, static_argnames="path")
    def moved(gradient, path="stacked"):
        params = {path: {"conv": {"kernel": jnp.zeros_like(gradient)}}}
        optimizer = muon(1.0, pattern=r"conv/kernel$", adam_learning_rate=1e-2)
        return optimizer.update({path: {"conv": {"kernel": gradient}}}, optimizer.init(params), params)[0][path]

    together = moved(gradient)["conv"]["kernel"]
    for layer in range(3):
        alone = moved(gradient[layer], path="layer")["conv"]["kernel"]
        np.testing.assert_allclose(together[layer], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(together - moved(gradient, path="layer")["conv"]["kernel"])).max() > 0.1
