"""Several tasks in one loss: by hand, with labels missing, and every way of weighing against its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from research.core import Ctx, Model, Trained, draw, gradient
from research.errors import UserError
from research.gradients.accumulate import accumulate
from research.objectives.classify import classify
from research.objectives.deep_supervision import deep_supervision
from research.objectives.multi_task import classification, fixed, measure_tasks, multi_task, regression
from research.objectives.uncertainty import uncertainty, with_log_variances

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype(np.float32)
BATCH = {
    "image": X,
    "label": np.array([0, 2, 1, -1, 1, -1, 2, 0]),
    "size": np.array([1.0, np.nan, 0.5, -1.0, 2.0, 0.0, np.nan, 0.3], np.float32),
}
W = {"kind": RNG.normal(size=(4, 3)).astype(np.float32), "extent": RNG.normal(size=(4, 1)).astype(np.float32)}
TASKS = {"kind": classification("kind"), "extent": regression("extent", targets="size")}
KEY = draw(0)
CALLS = []


def apply(params, stats, x, *, key=None, train=False):
    CALLS.append(train)
    return {name: x @ w for name, w in params.items() if name in W}, {}


def run(loss, batch=BATCH, params=W, step=0, stats=None):
    return jax.jit(loss)(params, Ctx(batch, stats or {}, KEY, np.int32(step)))


def cross_entropy(logits, labels):
    return scipy.special.logsumexp(logits, -1) - logits[np.arange(len(labels)), labels]


def losses(batch=BATCH):
    """The loss of every example that has the label, and which have it."""
    known = batch["label"] >= 0
    kind = cross_entropy(batch["image"] @ W["kind"], np.maximum(batch["label"], 0))
    sized = np.isfinite(batch["size"])
    extent = 0.5 * ((batch["image"] @ W["extent"])[:, 0] - np.where(sized, batch["size"], 0)) ** 2
    return np.where(known, kind, 0), known, np.where(sized, extent, 0), sized


def test_it_is_the_weighted_sum_over_labels_that_are_there():
    kind, known, extent, sized = losses()
    CALLS.clear()
    loss = multi_task(apply, TASKS, weigh=fixed({"kind": 2.0, "extent": 0.1}))
    (value, out), grads = jax.jit(jax.value_and_grad(lambda p: run(loss, params=p), has_aux=True))(W)
    assert CALLS == [True]
    np.testing.assert_allclose(value, np.sum(2 * kind + 0.1 * extent) / 8, rtol=1e-5)
    assert out.metrics["loss"].weight == 8 and out.metrics["kind_loss"].weight == 6
    np.testing.assert_allclose(out.metrics["extent_loss"].value(), extent[sized].mean(), rtol=1e-5)
    right = np.argmax(X @ W["kind"], -1) == BATCH["label"]
    np.testing.assert_allclose(out.metrics["kind_accuracy"].value(), right[known].mean(), rtol=1e-6)
    error = np.abs((X @ W["extent"])[:, 0] - BATCH["size"])[sized]
    np.testing.assert_allclose(out.metrics["extent_error"].value(), error.mean(), rtol=1e-5)
    # A missing label is neither a number nor a gradient.
    residual = (X @ W["extent"])[:, 0] - np.where(sized, BATCH["size"], 0)
    np.testing.assert_allclose(grads["extent"][:, 0], 0.1 * X.T @ np.where(sized, residual, 0) / 8, rtol=1e-4)
    assert np.all(np.isfinite(grads["kind"]))


def test_microbatches_add_up_however_labels_are_spread():
    loss = multi_task(apply, TASKS, weigh=fixed({"kind": 2.0, "extent": 0.1}))
    ctx = Ctx({**BATCH, "mask": np.array([1, 1, 1, 0, 1, 1, 1, 1])}, {}, draw(0), jnp.int32(0))
    (found, out), (expected, plain) = jax.device_get(
        jax.jit(lambda *given: (accumulate(gradient(loss), 4)(*given), gradient(loss)(*given)))(W, ctx)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    for name, mean in plain.metrics.items():
        np.testing.assert_allclose(out.metrics[name].value(), mean.value(), rtol=1e-5)


def test_one_task_is_classify_and_padding_counts_in_nothing():
    whole = {**BATCH, "label": np.abs(BATCH["label"])}
    found, out = run(multi_task(apply, {"kind": TASKS["kind"]}, weigh=fixed({"kind": 1.0})), whole)
    expected, _ = run(classify(lambda p, *a, **k: (apply(p, *a, **k)[0]["kind"], {})), whole)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    loss = multi_task(apply, TASKS, weigh=fixed({"kind": 2.0, "extent": 0.1}))
    mask = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    poisoned = {**BATCH, "image": np.where(mask[:, None], X, np.nan), "mask": mask}
    found, out = run(loss, poisoned)
    np.testing.assert_allclose(found, run(loss, {name: x[:5] for name, x in BATCH.items()})[0], rtol=1e-6)
    assert out.metrics["kind_loss"].weight == 4 and np.isfinite(out.metrics["extent_error"].value())


def test_an_evaluation_measures_every_task():
    batch = {**BATCH, "mask": np.array([1, 1, 1, 1, 1, 1, 1, 0])}
    found = jax.jit(measure_tasks(TASKS))(Trained(apply, W, {}), batch)
    kind, known, _, _ = losses()
    np.testing.assert_allclose(found["kind_loss"].value(), kind[:7].sum() / known[:7].sum(), rtol=1e-5)
    assert set(found) == {"kind_loss", "kind_accuracy", "extent_loss", "extent_error"}


def test_uncertainty_is_the_likelihood_of_the_labels_and_its_best_variance_is_twice_the_loss():
    model = with_log_variances(Model(lambda key: (W, {"n": 1}), apply), TASKS)
    params, stats = model.init(draw(0))
    assert stats == {"n": 1} and params["task_log_variance"] == {"kind": 0, "extent": 0}
    np.testing.assert_array_equal(model.apply(params, {}, X)[0]["kind"], X @ W["kind"])
    kind, known, extent, sized = losses()
    loss = multi_task(model, TASKS, weigh=uncertainty)
    log_variance = {"kind": np.float32(0.4), "extent": np.float32(-0.7)}
    slope = jax.jit(jax.value_and_grad(lambda s: run(loss, params={**params, "task_log_variance": s})[0]))
    value, slope_there = slope(log_variance)
    # A Gaussian of that variance around the prediction; the constant log(2 pi) / 2 is left out.
    errors = np.sqrt(2 * extent[sized])
    gauss = errors**2 / (2 * np.exp(-0.7)) + np.log(np.sqrt(np.exp(-0.7)))
    expected = (gauss.sum() + np.sum(kind[known] / np.exp(0.4) + np.log(np.sqrt(np.exp(0.4))))) / 8
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    best = {"kind": np.log(2 * kind[known].mean()), "extent": np.log(2 * extent[sized].mean())}
    _, slope_at_best = slope(jax.tree.map(np.float32, best))
    for name in TASKS:
        assert abs(slope_at_best[name]) < 1e-6 and abs(slope_there[name]) > 1e-3
    # The mean squared error, for the regression.
    np.testing.assert_allclose(np.exp(best["extent"]), np.mean(errors**2), rtol=1e-5)


def test_companions_fade_and_without_them_only_the_final_output_trains():
    both = {"kind": W["kind"], "early": W["kind"] + 1.0}
    outputs = lambda params, stats, x, *, key=None, train=False: ({n: x @ w for n, w in params.items()}, {})
    loss = deep_supervision(outputs, final="kind", companions={"early": 0.4}, steps=10)
    batch = {"image": X, "label": np.abs(BATCH["label"])}
    own = [cross_entropy(X @ w, batch["label"]).mean() for w in both.values()]
    for step, weight in ((0, 0.4), (5, 0.2), (10, 0.0)):
        np.testing.assert_allclose(run(loss, batch, both, step)[0], own[0] + weight * own[1], rtol=1e-5)
    grads = jax.device_get(jax.jit(jax.grad(lambda p: run(loss, batch, p, 10)[0]))(both))
    assert np.all(grads["early"] == 0) and np.abs(grads["kind"]).max() > 0


def test_the_augmentation_and_the_model_get_keys_of_their_own_that_change_with_the_step():
    @jax.jit
    def drawn(key):
        keys = []

        def noting(key, batch):
            keys.append(jax.random.key_data(key))
            return batch

        def noted(params, stats, x, *, key=None, train=False):
            noting(key, None)
            return apply(params, stats, x)

        loss = multi_task(noted, TASKS, weigh=fixed({"kind": 1.0, "extent": 1.0}), augment=noting)
        loss(W, Ctx(BATCH, {}, key, jnp.int32(0)))
        return jnp.stack(keys)

    assert len(np.unique(np.concatenate([drawn(draw(seed)) for seed in (0, 1)]), axis=0)) == 4


def test_what_does_not_fit_is_an_error_while_tracing():
    with pytest.raises(UserError, match="unknown task 'extents'. Did you mean 'extent'"):
        run(multi_task(apply, TASKS, weigh=fixed({"kind": 1.0, "extents": 1.0})))
    with pytest.raises(UserError, match="unknown task 'extent'"):
        run(multi_task(apply, TASKS, weigh=fixed({"kind": 1.0})))
    for wrong, message in (
        (classification("kind", labels="size"), "must be int"),
        (classification("kinds"), "Did you mean 'kind'"),
        (regression("kind", targets="size"), "does not fit the targets"),
        (regression("kind", targets="sizes"), "Did you mean 'size'"),
    ):
        with pytest.raises(UserError, match=message):
            run(multi_task(apply, {"a": wrong}, weigh=fixed({"a": 1.0})))
