"""Experts against numpy, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from research.core import Ctx, Model, gradient
from research.errors import UserError
from research.gradients.accumulate import accumulate
from research.layers.experts import Experts, Routed
from research.model import from_nnx
from research.objectives.language import language
from tests.models.fresh import fresh

X = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)
INIT = nnx.initializers.normal(0.5)


def experts(**options):
    model = from_nnx(lambda rngs: Experts(4, number=4, hidden=5, kernel_init=INIT, rngs=rngs, **options))
    return model, fresh(model, scale=1.0)[0]


def by_hand(params, x, *, top, places):
    """(output, balance) of one row: tokens in order, each to its experts while there is room."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    chances = scipy.special.softmax(x.astype(np.float64) @ p["router"]["kernel"], -1)
    output, room, chosen = np.zeros((8, 4)), np.full(4, places), np.zeros(4)
    for token in range(8):
        best = np.argsort(-chances[token])[:top]
        for e in best:
            chosen[e] += 1 / (8 * top)
            weight = chances[token, e] / (chances[token, best].sum() if top > 1 else 1)
            if room[e] > 0:
                hidden = np.asarray(jax.nn.gelu(x[token] @ p["up"]["kernel"][e] + p["up"]["bias"][e]), np.float64)
                output[token] += weight * (hidden @ p["down"]["kernel"][e] + p["down"]["bias"][e])
            room[e] -= 1
    return output, 4 * (chosen * chances.mean(0)).sum()


@pytest.mark.parametrize(("top", "capacity", "places"), [(1, 1.0, 2), (2, 0.7, 3), (2, 2.0, 8)])
def test_it_is_the_sum_over_the_chosen_experts(top, capacity, places):
    model, params = experts(top=top, capacity=capacity)
    found, _ = jax.jit(lambda x: model.apply(params, {}, x, train=True))(X)
    outputs, balances = zip(*(by_hand(params, row, top=top, places=places) for row in X), strict=True)
    np.testing.assert_allclose(found.output, outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.balance, balances, rtol=1e-5)


def test_no_token_depends_on_a_later_one_although_places_are_scarce():
    model, params = experts(top=2, capacity=0.5)
    run = jax.jit(lambda x: model.apply(params, {}, x)[0].output)
    changed = X.copy()
    changed[:, 5:] += 3
    np.testing.assert_array_equal(run(X)[:, :5], run(changed)[:, :5])
    assert (run(X)[:, 5:] != run(changed)[:, 5:]).any()


def test_the_balance_is_one_where_all_experts_are_alike_and_number_where_one_has_all():
    model, params = experts(top=1)
    balance = jax.jit(lambda kernel: model.apply({**params, "router": {"kernel": kernel}}, {}, np.abs(X))[0].balance)
    for scale, expected in ((0.0, 1.0), (1e4, 4.0)):
        # With positive inputs all weight on the first expert's column draws all tokens there.
        kernel = np.zeros((4, 4), np.float32)
        kernel[:, 0] = scale
        np.testing.assert_allclose(balance(kernel), expected, rtol=1e-5)


def test_the_router_learns():
    for top in (1, 2):
        model, params = experts(top=top)
        grads = jax.jit(jax.grad(lambda p, model=model: model.apply(p, {}, X)[0].output.sum()))(params)
        assert np.abs(np.asarray(grads["router"]["kernel"])).max() > 1e-3


def test_the_loss_adds_over_examples_with_their_tokens():
    """Rows of different length in microbatches: the balance is weighted as the loss is."""
    segments = (np.arange(6) < np.array([[6], [3], [2], [5]])).astype(np.int32)
    batch = {"tokens": np.arange(24).reshape(4, 6) % 5, "segments": segments, "positions": np.zeros((4, 6), np.int32)}

    def apply(params, stats, tokens, segments, positions, key=None, train=False):
        balance = params["b"] ** 2 * jnp.float32(segments.sum(1)) ** 2
        return Routed(params["w"][tokens] * segments.sum(1)[:, None, None], balance), {}

    loss = language(Model(None, apply), balance=0.1)
    unbalanced = language(Model(None, apply), balance=0.0)
    params = {"w": np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32), "b": np.float32(2)}
    (grads, out), (parts, _), (plain, _) = jax.jit(
        lambda *given: (gradient(loss)(*given), accumulate(gradient(loss), 2)(*given), unbalanced(*given))
    )(params, Ctx(batch, {}, jax.random.key(0), np.int32(0)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, parts)
    counts = np.array([5, 2, 1, 4])
    expected = (counts * 4 * segments.sum(1) ** 2).sum() / counts.sum()
    assert float(out.metrics["balance"].value()) == pytest.approx(expected)
    assert float(out.metrics["loss"].value()) == pytest.approx(float(plain) + 0.1 * expected, rel=1e-5)


def test_more_choices_than_experts_are_refused():
    with pytest.raises(UserError, match="top=5 of 4 experts per token; expected 1 to 4"):
        experts(top=5)
