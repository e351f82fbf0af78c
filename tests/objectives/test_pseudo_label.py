"""Pseudo-labels against the formula in numpy, and in their limits."""

import jax
import numpy as np
import optax
from scipy.special import log_softmax, softmax

from research.core import draw
from research.objectives.classify import classify
from research.objectives.pseudo_label import pseudo_label
from tests.objectives.semi import MU, B, C, D, U, W, X, Y, linear, noise, padded, run


def test_it_is_the_papers_formula_with_a_threshold_and_a_ramp():
    ramp = optax.linear_schedule(0.0, 3.0, 10, 5)  # eq. 16: T1 = 5, T2 = 15, a = 3
    w, key = np.asarray(W, np.float64), jax.random.key(0)
    given = {"augment": X, "weak": U.reshape(-1, D)}
    views = jax.jit(lambda: [noise(0.2)(draw(key, name), {"image": x})["image"] for name, x in given.items()])()
    x, u = (np.asarray(view, np.float64) for view in views)
    guesses = softmax(u @ w, -1)
    taken = guesses.max(-1) >= 0.6
    assert 0 < taken.sum() < B * MU
    target, labels = np.eye(C)[guesses.argmax(-1)], np.eye(C)[Y]
    term = -np.sum(target * log_softmax(u @ w, -1), -1) * taken
    supervised = -np.sum(labels * log_softmax(x @ w, -1), -1).mean()
    of_labels = x.T @ (softmax(x @ w, -1) - labels) / B
    of_guesses = u.T @ ((guesses - target) * taken[:, None]) / (B * MU)
    loss = pseudo_label(linear, threshold=0.6, weight=ramp, augment=noise(0.2))
    compiled = jax.jit(lambda step: run(loss, step=step))
    for step, weight in ((0, 0.0), (5, 0.0), (7, 0.6), (15, 3.0), (90, 3.0)):
        value, out, grads = compiled(step)
        np.testing.assert_allclose(value, supervised + weight * term.mean(), rtol=1e-5)
        np.testing.assert_allclose(grads, of_labels + weight * of_guesses, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.metrics["taken"].value(), taken.mean(), rtol=1e-6)
    np.testing.assert_allclose(out.metrics["unlabelled"].value(), term.mean(), rtol=1e-5)
    assert out.metrics["accuracy"].value() == np.mean((x @ w).argmax(-1) == Y)
    assert out.stats == {"seen": 4 + B + B * MU}


def test_where_nothing_is_sure_it_is_classify_and_views_change_with_the_key():
    loss = pseudo_label(linear, threshold=1.01, augment=noise(0.2))
    (value, _, grads), (expected, _, plain) = run(loss), run(classify(linear, augment=noise(0.2)))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grads, plain, rtol=1e-5, atol=1e-7)
    every = pseudo_label(linear, threshold=0.0, augment=noise(0.2))
    terms = [float(run(every, key=key)[1].metrics["unlabelled"].value()) for key in (0, 1)]
    assert terms[0] != terms[1]


def test_padding_counts_in_nothing():
    (batch, rest), loss = padded(), pseudo_label(linear, threshold=0.0)
    (value, out, grads), (expected, other, of_rest) = run(loss, batch), run(loss, rest)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grads, of_rest, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), out.metrics, other.metrics)
