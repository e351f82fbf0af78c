"""The Fisher information against closed forms, the penalty against its own, and consolidation inside a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from research.core import Ctx, Mean, NotAdditive, Out, State, draw, not_additive
from research.errors import UserError
from research.experiment import build
from research.objectives.elastic import elastic, fisher_diagonal, gaussian
from tests import toys

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype(np.float32)
W = {"w": np.float32(RNG.normal(size=(4, 3))), "b": np.zeros(3, np.float32)}


def linear(params, stats, x, *, key=None, train=False):
    return x @ params["w"] + params["b"], {}


def test_the_fisher_of_a_linear_gaussian_model_is_its_inputs_second_moment():
    found = jax.jit(fisher_diagonal(linear, X, scores=gaussian(0.5), microbatch=2))(W, {})
    second = np.mean(X**2, 0) / 0.25
    np.testing.assert_allclose(found["w"], np.tile(second[:, None], (1, 3)), rtol=1e-5)
    np.testing.assert_allclose(found["b"], np.full(3, 4.0), rtol=1e-5)


def test_the_fisher_of_a_logistic_model_is_p_times_1_minus_p_and_the_mean_over_its_own_labels():
    found = jax.jit(fisher_diagonal(linear, X, microbatch=3))(W, {})
    p = scipy.special.softmax(X @ W["w"], -1)
    np.testing.assert_allclose(found["b"], np.mean(p * (1 - p), 0), rtol=1e-5)
    np.testing.assert_allclose(found["w"], np.einsum("ni,nc->ic", X**2, p * (1 - p)) / 6, rtol=1e-5)
    # The definition: squared scores of every possible label, weighed by how likely the model finds it.
    log_p = lambda params, x, c: jax.nn.log_softmax(linear(params, {}, x)[0])[c]
    every = jax.vmap(jax.vmap(jax.grad(log_p), (None, None, 0)), (None, 0, None))
    scores = np.asarray(jax.jit(every)(W, X, np.arange(3))["w"])
    expected = np.mean([sum(p[n, c] * scores[n][c] ** 2 for c in range(3)) for n in range(6)], 0)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-4)


def test_inputs_that_the_microbatch_does_not_divide():
    with pytest.raises(UserError, match="6 inputs"):
        fisher_diagonal(linear, X, microbatch=4)


def entry(state_step, held, params, stats):
    return held.after(State(None, None, jnp.int32(state_step), None, stats, None), params)


def test_the_penalty_and_its_gradient():
    fisher = jax.tree.map(lambda x: np.abs(x) + 1, W)
    anchor = jax.tree.map(lambda x: x - 0.5, W)

    def plain(params, ctx):
        mean = Mean(jnp.sum(params["w"]) * 4, jnp.float32(4))
        return mean.value(), Out({"n": 1}, {"loss": mean})

    held = elastic(plain, {}, strength=3.0)
    ctx = Ctx({}, {"elastic": {"anchor": anchor, "fisher": fisher}}, draw(0), np.int32(0))
    unheld = elastic(plain, {}, strength=0.0)
    ((value, out), grads), (free, _), (bare, _) = jax.jit(
        lambda *given: (jax.value_and_grad(held.loss, has_aux=True)(*given), unheld.loss(*given), plain(*given))
    )(W, ctx)
    penalty = 1.5 * 0.25 * (np.sum(fisher["w"]) + np.sum(fisher["b"]))
    np.testing.assert_allclose(value, np.sum(W["w"]) + penalty, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["elastic"].value(), penalty, rtol=1e-5)
    assert out.metrics["loss"].weight == 4 and out.metrics["loss"].value() == value and out.stats == {"n": 1}
    np.testing.assert_allclose(grads["w"], 1 + 3 * fisher["w"] * 0.5, rtol=1e-5)
    np.testing.assert_allclose(grads["b"], 3 * fisher["b"] * 0.5, rtol=1e-5)
    assert free == bare


def test_a_whole_loss_stays_one():
    loss = lambda params, ctx: (jnp.float32(2), Out({}, {"loss": not_additive(Mean(jnp.float32(2), jnp.float32(1)))}))
    held = elastic(loss, {}, strength=1.0)
    _, out = held.loss(W, Ctx({}, {"elastic": held.memory(None, W)}, draw(0), jnp.int32(0)))
    assert isinstance(out.metrics["loss"], NotAdditive)


def test_tasks_are_consolidated_in_turn():
    fisher = lambda params, stats: jax.tree.map(lambda x: x * 0 + stats["scale"], params)
    held = elastic(toys.loss_of(linear), {5: fisher, 9: fisher}, strength=1.0, decay=0.5)
    stats = {"elastic": held.memory(None, W), "scale": jnp.float32(2)}
    assert np.all(entry(3, held, W, stats)["elastic"]["fisher"]["w"] == 0)
    moved = jax.tree.map(lambda x: x + 1, W)
    first = entry(4, held, moved, stats)
    np.testing.assert_array_equal(first["elastic"]["anchor"]["w"], moved["w"])
    assert np.all(first["elastic"]["fisher"]["b"] == 2)
    again = entry(8, held, W, {**stats, **first})
    np.testing.assert_array_equal(again["elastic"]["anchor"]["w"], W["w"])
    assert np.all(again["elastic"]["fisher"]["b"] == 3)


def test_in_a_run_the_weights_of_the_given_update_become_the_anchor():
    model = toys.model()
    fisher = lambda params, stats: jax.tree.map(jnp.ones_like, params)
    found, plain = [], None
    for strength in (0.0, 50.0):
        held = elastic(toys.loss_of(model.apply), {4: fisher}, strength=strength)
        experiment = toys.experiment(loss=None, techniques=(held,))
        built = build(experiment, devices=jax.devices()[:1])
        state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
        for step in range(9):
            state, sums = built.step(state, sums, batch_at(step))
            plain = np.asarray(state.params["w"]) if step == 3 else plain
        np.testing.assert_array_equal(state.stats["elastic"]["anchor"]["w"], plain)
        found.append(np.abs(np.asarray(state.params["w"]) - plain).max())
    assert found[1] < 0.7 * found[0]
