"""MMD against double loops over all pairs, its two estimates, and the loss that aligns domains with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, NotAdditive, check_additive, draw
from research.errors import UserError
from research.objectives.classify import classify
from research.objectives.mmd import mean_variance, mmd_alignment, squared_mmd

RNG = np.random.default_rng(0)
VARIANCES = (0.5, 2.0, 3.0)


def loops(x, y, *, unbiased):
    """The definitions of Gretton et al. 2012, eq. 3 and 5, pair by pair."""
    kernel = lambda a, b: np.mean([np.exp(-np.sum((a - b) ** 2) / (2 * v)) for v in VARIANCES])

    def within(s):
        values = [kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if not (unbiased and i == j)]
        return np.sum(values) / (len(s) * (len(s) - unbiased))

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_it_is_the_sum_over_pairs_and_weights_leave_examples_out():
    x, y = RNG.normal(size=(7, 3)), RNG.normal(0.5, 1, size=(5, 3))
    weights = {"x_weights": np.array([1, 1, 0, 1, 1, 0, 1]), "y_weights": np.array([1, 1, 1, 0, 1])}
    all_and_some = lambda unbiased: [
        squared_mmd(x, y, variances=VARIANCES, unbiased=unbiased, **left_out) for left_out in ({}, weights)
    ]
    found = jax.jit(lambda: (all_and_some(False), all_and_some(True)))()
    for unbiased in (False, True):
        rest = loops(x[[0, 1, 3, 4, 6]], y[[0, 1, 2, 4]], unbiased=unbiased)
        np.testing.assert_allclose(found[unbiased], [loops(x, y, unbiased=unbiased), rest], rtol=1e-5)


def test_equal_samples_are_at_0_and_equal_distributions_at_0_in_the_mean():
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    estimate = lambda unbiased: jax.vmap(lambda x, y: squared_mmd(x, y, variances=VARIANCES, unbiased=unbiased))
    one = jax.jit(lambda x, y: squared_mmd(x, y, variances=VARIANCES, unbiased=True))(x, x[:1])
    biased, values = jax.jit(lambda x, y: (estimate(False)(x, y), estimate(True)(x, y)))(
        np.concatenate([[x, x], RNG.normal(size=(800, 6, 3)).astype(np.float32)]),
        np.concatenate([[x, x + 1], RNG.normal(size=(800, 6, 3)).astype(np.float32)]),
    )
    biased, values = np.asarray(biased), np.asarray(values)[2:]
    assert abs(biased[0]) < 1e-6 and biased[1] > 0.05
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values)) and values.min() < 0
    assert biased[2:].mean() > 0.1
    assert one == 0


def encoder(params, stats, x, *, key=None, train=False):
    return jnp.tanh(x @ params), {}


def classifier(params, stats, x, *, key=None, train=False):
    return x @ params, {"seen": stats["seen"] + train}


PARAMS = {
    "encoder": RNG.normal(size=(4, 5)).astype(np.float32),
    "classifier": RNG.normal(size=(5, 3)).astype(np.float32),
}
BATCH = {
    "image": RNG.normal(size=(6, 4)).astype(np.float32),
    "label": RNG.integers(3, size=6),
    "unlabelled": RNG.normal(1.0, 2.0, size=(6, 2, 4)).astype(np.float32),
}


KEY = draw(0)


def run(loss, batch=BATCH, params=PARAMS, step=0):
    return jax.jit(loss)(params, Ctx(batch, {"seen": np.int32(4)}, KEY, jnp.int32(step)))


def whole_model(params, stats, x, *, key=None, train=False):
    return classifier(params["classifier"], stats, encoder(params["encoder"], stats, x)[0], train=train)


def test_the_loss_is_the_cross_entropy_and_the_distance_of_the_features():
    loss = mmd_alignment(encoder, classifier, strength=0.7, scales=(1.0, 2.0))
    with jax.disable_jit():  # compiled, the two are rounded apart
        value, out = run(loss)
    source = np.tanh(BATCH["image"] @ PARAMS["encoder"])
    target = np.tanh(BATCH["unlabelled"].reshape(12, 4) @ PARAMS["encoder"])
    width = np.mean([np.sum((a - b) ** 2) for a in source for b in target]) / 2
    distance = jax.jit(lambda: squared_mmd(source, target, variances=(float(width), float(2 * width))))()
    plain, _ = run(classify(whole_model))
    np.testing.assert_allclose(value, plain + 0.7 * distance, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["mmd"].value(), distance, rtol=1e-5)
    assert out.metrics["loss"].value() == value and out.stats == {"seen": 5}
    with pytest.raises(UserError, match="accumulate splits"):
        check_additive(out.metrics, by="accumulate")
    assert isinstance(out.metrics["loss"], NotAdditive)
    later, _ = run(mmd_alignment(encoder, classifier, strength=lambda step: 0.1 * step, scales=(1.0, 2.0)), step=7)
    np.testing.assert_allclose(later, value, rtol=1e-6)


def test_without_strength_it_is_classification_of_the_source():
    slope = lambda loss: jax.grad(lambda p: run(loss, params=p)[0])(PARAMS)
    ours, plain = jax.jit(
        lambda: (slope(mmd_alignment(encoder, classifier, strength=0.0)), slope(classify(whole_model)))
    )()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, plain)


def test_padding_counts_in_nothing():
    mask = np.array([1, 1, 1, 1, 0, 0])
    spoiled = {name: np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0).astype(x.dtype) for name, x in BATCH.items()}
    loss = mmd_alignment(encoder, classifier, strength=0.7)
    for batch in ({**BATCH, "mask": mask}, {**spoiled, "mask": mask}):
        found, out = run(loss, batch)
        np.testing.assert_allclose(found, run(loss, {name: x[:4] for name, x in BATCH.items()})[0], rtol=1e-5)
        assert out.metrics["accuracy"].weight == 4


def test_the_kernels_width_has_no_gradient_and_wrong_batches_are_errors():
    ones = np.ones(6, np.float32)
    slope = jax.jit(jax.grad(lambda x: mean_variance(x, 2 * x, ones, ones)))(BATCH["image"])
    np.testing.assert_array_equal(slope, 0)
    for wrong in ({"unlabelled": BATCH["image"]}, {"unlabelled": BATCH["unlabelled"][..., :3]}):
        with pytest.raises(UserError, match="unlabelled"):
            run(mmd_alignment(encoder, classifier, strength=1.0), {**BATCH, **wrong})
