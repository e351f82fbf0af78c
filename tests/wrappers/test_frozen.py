"""The last layers only: no gradient below them, no moments, and the gradient of the whole network for the rest."""

import jax
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.model import from_nnx
from research.models.gpt import GPT
from research.tree import shapes
from research.wrappers.frozen import frozen
from tests.models.fresh import fresh

BASE = from_nnx(lambda rngs: GPT(vocabulary=9, length=8, width=16, depth=3, heads=2, num_classes=2, rngs=rngs))
LAST = frozen(BASE, r"^(?!classifier/|norm/|blocks/2/)")
TOKENS = np.random.default_rng(0).integers(9, size=(4, 8))


def total(model):
    return lambda params, stats: (model.apply(params, stats, TOKENS)[0] ** 2).sum()


def test_only_the_last_layers_are_trained_and_have_moments():
    params, stats = jax.eval_shape(LAST.init, jax.random.key(0))
    assert set(params) == {"classifier", "norm", "blocks"} and set(params["blocks"]) == {"2"}
    assert set(stats["frozen"]) == {"embed", "place", "blocks"} and set(stats["frozen"]["blocks"]) == {"0", "1"}
    assert shapes(jax.eval_shape(optax.adam(1.0).init, params)[0].nu) == shapes(params)


def test_their_gradient_is_that_of_the_whole_network_and_ends_below_them():
    params, stats = fresh(LAST)
    whole = {**stats["frozen"], **params, "blocks": {**stats["frozen"]["blocks"], **params["blocks"]}}
    compiled, full = (
        jax.jit(jax.grad(total(model))).lower(*trees).compile()
        for model, trees in ((LAST, (params, stats)), (BASE, (whole, {})))
    )
    found, expected = compiled(params, stats), full(whole, {})
    expected = {**{name: expected[name] for name in params}, "blocks": {"2": expected["blocks"]["2"]}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)
    # A block costs 1 forward, and 2 backward if it is trained: 3 + 2 of 9 parts, and the embedding's gradient.
    last, all_layers = (program.cost_analysis()["flops"] for program in (compiled, full))
    assert last < 0.65 * all_layers


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(UserError, match="frozen: 'clasifier' matches no parameter. Did you mean 'classifier/bias'"):
        jax.eval_shape(frozen(BASE, "clasifier").init, jax.random.key(0))
