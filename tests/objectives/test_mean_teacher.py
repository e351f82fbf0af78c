"""Mean teacher against its formula and its recursion in numpy, and in its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import softmax

from research.core import Model, draw, live
from research.data import arrays, batches
from research.data.sampling.paired import paired
from research.experiment import Experiment, build
from research.objectives.classify import classify
from research.objectives.mean_teacher import mean_teacher, sigmoid_ramp
from research.optim.ema import ema
from tests.objectives.semi import MU, B, C, D, U, W, X, Y, linear, noise, padded, run


def consistency(w, teacher, x, again):
    """The mean squared distance of probabilities, and its gradient with respect to w, in f64."""
    p, q = softmax(x @ w, -1), softmax(again @ teacher, -1)
    far = p - q
    of_logits = 2 * p * (far - np.sum(far * p, -1, keepdims=True))
    return np.sum(far**2, -1).mean(), x.T @ of_logits / len(x)


def supervised(w, x, y):
    return x.T @ (softmax(x @ w, -1) - np.eye(C)[y]) / len(x)


def test_it_is_the_papers_formula_with_two_views():
    v, augment, key = np.asarray(-W, np.float64), noise(0.3), jax.random.key(0)
    loss = mean_teacher(linear, view=lambda state: (-state.params, state.stats), augment=augment, weight=0.7)
    value, out, grads = run(loss)
    u, w = U.reshape(-1, D), np.asarray(W, np.float64)
    given = {"augment": X, "teacher": np.concatenate([X, u]), "weak": u}
    views = jax.jit(lambda: {name: augment(draw(key, name), {"image": x})["image"] for name, x in given.items()})()
    x, again, weak = (np.asarray(views[name], np.float64) for name in given)
    far, of_far = consistency(w, v, np.concatenate([x, weak]), again)
    expected, _, _ = run(classify(linear, augment=augment))
    np.testing.assert_allclose(out.metrics["consistency"].value(), far, rtol=1e-5)
    np.testing.assert_allclose(value, expected + 0.7 * far, rtol=1e-5)
    np.testing.assert_allclose(grads, supervised(w, x, Y) + 0.7 * of_far, rtol=1e-4, atol=1e-6)
    assert out.metrics["accuracy"].value() == np.mean((x @ w).argmax(-1) == Y)
    assert out.stats == {"seen": 4 + B + B * MU}
    assert float(run(loss, key=1)[1].metrics["consistency"].value()) != float(out.metrics["consistency"].value())


def test_without_weight_it_is_classify_and_without_noise_its_own_pupil():
    expected, _, plain = run(classify(linear, augment=noise(0.3)))
    value, _, grads = run(mean_teacher(linear, view=live, augment=noise(0.3), weight=0.0))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grads, plain, rtol=1e-5, atol=1e-7)
    _, out, _ = run(mean_teacher(linear, view=live))
    np.testing.assert_allclose(out.metrics["consistency"].value(), 0, atol=1e-7)
    _, out, _ = run(mean_teacher(linear, view=live, augment=noise(0.3)))
    assert out.metrics["consistency"].value() > 1e-3  # teacher and student see noise of their own


def test_padding_counts_in_nothing():
    batch, rest = padded()
    loss = mean_teacher(linear, view=lambda state: (-state.params, state.stats))
    (value, out, grads), (expected, other, of_rest) = run(loss, batch), run(loss, rest)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grads, of_rest, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), out.metrics, other.metrics)


def test_some_steps_are_the_recursion_by_hand():
    model = Model(lambda key: (W, {"seen": jnp.int32(0)}), linear)
    average, ramp = ema(0.6), sigmoid_ramp(8.0, steps=3)
    source = paired(batches(arrays(image=X, label=Y), 2), arrays(image=U.reshape(-1, D)), ratio=2)
    experiment = Experiment(
        init=model.init, apply=model.apply, loss=mean_teacher(model, view=average.view, weight=ramp),
        optimizer=optax.sgd(0.5), source=source, steps=8, techniques=(average,),
    )  # fmt: skip
    built = build(experiment, devices=jax.devices()[:1])
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    w = mean = np.asarray(W, np.float64)
    for step in range(5):
        batch = batch_at(step)
        state, sums = built.step(state, sums, batch)
        both = np.concatenate([batch["image"], batch["unlabelled"].reshape(-1, D)])
        weight = 8 * np.exp(-5 * (1 - min(step / 3, 1)) ** 2)
        w = w - 0.5 * (supervised(w, batch["image"], batch["label"]) + weight * consistency(w, mean, both, both)[1])
        rate = min(0.6, (1 + step) / (10 + step))
        mean = rate * mean + (1 - rate) * w
    np.testing.assert_allclose(state.params, w, rtol=1e-4)
    np.testing.assert_allclose(state.stats["ema"], mean, rtol=1e-4)
    assert not np.allclose(mean, w, rtol=1e-2)


def test_the_ramp():
    ramp = jax.jit(sigmoid_ramp(2.0, steps=10))
    found = [float(ramp(step)) for step in (0, 5, 10, 50)]
    np.testing.assert_allclose(found, [2 * np.exp(-5), 2 * np.exp(-1.25), 2, 2], rtol=1e-5)
