"""FixMatch against the formula in numpy, and in its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from research.core import Ctx, draw, merge
from research.errors import UserError
from research.objectives.classify import classify
from research.objectives.fixmatch import fixmatch
from research.objectives.pseudo_label import pseudo_label
from tests.objectives.semi import BATCH, MU, B, C, D, U, W, X, Y, identity, linear, noise, padded, run

WEAK, STRONG = noise(0.1), noise(1.0)


@functools.cache
def views():
    """The labelled, weak and strong views that the loss must have seen, f64."""
    key = jax.random.key(0)
    rows = {"image": U.reshape(-1, D)}
    seen = jax.jit(
        lambda: (
            WEAK(draw(key, "augment"), {"image": X}),
            WEAK(draw(key, "weak"), rows),
            STRONG(draw(key, "strong"), rows),
        )
    )()
    return [np.asarray(view["image"], np.float64) for view in seen]


@functools.cache
def bare():
    """FixMatch without augmentation."""
    return fixmatch(linear, weak=identity, strong=identity, threshold=0.6)


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_it_is_the_papers_formula(threshold):
    loss = fixmatch(linear, weak=WEAK, strong=STRONG, threshold=threshold, weight=lambda step: 0.5 * step)
    value, out, grads = run(loss, step=3)
    x, easy, hard = views()
    w = np.asarray(W, np.float64)
    guesses = softmax(easy @ w, -1)
    taken = guesses.max(-1) >= threshold
    assert taken.all() if threshold == 0 else 0 < taken.sum() < B * MU
    target, labels = np.eye(C)[guesses.argmax(-1)], np.eye(C)[Y]
    entropy = -np.sum(target * log_softmax(hard @ w, -1), -1) * taken
    supervised = -np.sum(labels * log_softmax(x @ w, -1), -1)
    np.testing.assert_allclose(value, supervised.mean() + 1.5 * entropy.sum() / (B * MU), rtol=1e-5)
    of_labels = x.T @ (softmax(x @ w, -1) - labels) / B
    of_guesses = hard.T @ ((softmax(hard @ w, -1) - target) * taken[:, None]) / (B * MU)
    np.testing.assert_allclose(grads, of_labels + 1.5 * of_guesses, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.metrics["taken"].value(), taken.mean(), rtol=1e-6)
    np.testing.assert_allclose(out.metrics["unlabelled"].value(), entropy.mean(), rtol=1e-5)
    assert out.metrics["accuracy"].value() == np.mean((x @ w).argmax(-1) == Y)
    np.testing.assert_allclose(value, out.metrics["loss"].value(), rtol=1e-6)
    assert out.stats == {"seen": 4 + B + B * MU}


def test_where_nothing_is_sure_or_counts_it_is_classify():
    expected, _, grads = run(classify(linear, augment=WEAK))
    for options in ({"threshold": 1.01}, {"weight": 0.0}):
        value, out, found = run(fixmatch(linear, weak=WEAK, strong=STRONG, **options))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(found, grads, rtol=1e-5, atol=1e-7)
        assert out.metrics["taken"].value() == 0 or options == {"weight": 0.0}


def test_without_augmentation_it_is_pseudo_label():
    value, _, grads = run(bare())
    expected, _, of_pseudo = run(pseudo_label(linear, threshold=0.6))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grads, of_pseudo, rtol=1e-5)


def test_other_weights_can_guess():
    loss = lambda view: fixmatch(linear, weak=identity, strong=identity, threshold=0.0, view=view)
    value, _, grads = run(loss(lambda state: (-state.params, state.stats)))
    u, w = U.reshape(-1, D).astype(np.float64), np.asarray(W, np.float64)
    target = np.eye(C)[(-u @ w).argmax(-1)]
    labels = X.T @ (softmax(X @ w, -1) - np.eye(C)[Y]) / B
    np.testing.assert_allclose(grads, labels + u.T @ (softmax(u @ w, -1) - target) / len(u), rtol=1e-4, atol=1e-6)
    assert value > run(loss(lambda state: (state.params, state.stats)))[0]


def test_padding_counts_in_nothing():
    batch, rest = padded()
    loss = bare()
    (value, out, grads), (expected, other, of_rest) = run(loss, batch), run(loss, rest)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grads, of_rest, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), out.metrics, other.metrics)


def test_it_adds_over_labelled_examples():
    loss = bare()
    _, whole, _ = run(loss)
    parts = [run(loss, {name: field[rows] for name, field in BATCH.items()})[1] for rows in (slice(1), slice(1, None))]
    both = merge(parts[0].metrics, parts[1].metrics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), both, whole.metrics)


def test_views_and_model_calls_have_keys_of_their_own_that_change_with_the_key():
    @jax.jit
    def drawn(key):
        keys = []

        def watching(inner):
            def call(*given, key=None, **options):
                keys.append(jax.random.key_data(given[0] if key is None else key))
                return inner(*given, **options) if key is None else inner(*given, key=key, **options)

            return call

        loss = fixmatch(watching(linear), weak=watching(WEAK), strong=watching(STRONG))
        loss(W, Ctx(BATCH, {"seen": jnp.int32(4)}, key, jnp.int32(0)))
        return jnp.stack(keys)

    assert len(np.unique(np.concatenate([drawn(jax.random.key(seed)) for seed in (0, 1)]), axis=0)) == 2 * 5


def test_unlabelled_examples_that_do_not_fit_are_errors():
    loss = fixmatch(linear, weak=identity, strong=identity)
    with pytest.raises(UserError, match=r"expected \[4, 'mu', 5\]"):
        run(loss, {**BATCH, "unlabelled": U[:2]})
    with pytest.raises(UserError, match=r"shape \[4, 5\]"):
        run(loss, {**BATCH, "unlabelled": X})
    with pytest.raises(UserError, match="unknown batch field 'unlabelled'. Did you mean 'unlabeled'"):
        run(loss, {"image": X, "label": Y, "unlabeled": U})
