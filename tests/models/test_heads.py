"""Heads on a trunk, against the layers by hand."""

import jax
import numpy as np
import pytest
from flax import nnx

from research.errors import UserError
from research.models.heads import MultiHeadMLP


def test_each_head_lies_on_its_layer():
    heads = MultiHeadMLP(
        (2, 2), heads={"a": 3, "b": 1, "c": 2}, depths={"b": 1, "c": 0}, hidden=(5, 4), rngs=nnx.Rngs(0)
    )
    x = np.random.default_rng(0).normal(size=(6, 2, 2)).astype(np.float32)
    found = jax.jit(lambda x: heads(x, train=False))(x)
    dense = lambda layer, x: x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    flat = x.reshape(6, 4)
    first = np.maximum(dense(heads.layers[0], flat), 0)
    second = np.maximum(dense(heads.layers[1], first), 0)
    for name, level in (("a", second), ("b", first), ("c", flat)):
        np.testing.assert_allclose(found[name], dense(heads.heads[name], level), rtol=1e-5, atol=1e-6)
    assert {name: x.shape for name, x in found.items()} == {"a": (6, 3), "b": (6, 1), "c": (6, 2)}


def test_dropout_moves_with_its_key():
    heads = MultiHeadMLP((4,), heads={"a": 3}, hidden=(16,), dropout=0.5, rngs=nnx.Rngs(0))
    x = np.ones((2, 4), np.float32)
    run = jax.jit(lambda key: heads(x, train=True, rngs=nnx.Rngs(key))["a"])
    one, two = (run(jax.random.key(seed)) for seed in (1, 2))
    assert not np.allclose(one, two)


@pytest.mark.parametrize("depths", [{"b": 1}, {"a": 3}, {"a": -1}])
def test_a_depth_that_is_not_there(depths):
    with pytest.raises(UserError, match="head .* at depth"):
        MultiHeadMLP((4,), heads={"a": 3}, depths=depths, hidden=(5, 4), rngs=nnx.Rngs(0))
