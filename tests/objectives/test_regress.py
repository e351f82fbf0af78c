import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics

from research import losses
from research.core import Ctx, draw
from research.errors import UserError
from research.objectives.regress import regress

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype(np.float32)
Y = RNG.normal(size=(6, 3)).astype(np.float32) * 2
W = RNG.normal(size=(4, 3)).astype(np.float32)


def linear(params, stats, x, *, key=None, train=False):
    assert train
    return x @ params, {"seen": stats["seen"] + 1, "key": jax.random.key_data(key)}


def run(loss, batch, params=W):
    return jax.jit(loss)(params, Ctx(batch, {"seen": np.int32(4)}, jax.random.key(0), np.int32(0)))


def test_loss_mae_and_stats():
    with jax.disable_jit():  # compiled, the two are rounded apart
        value, out = run(regress(linear), {"features": X, "target": Y})
    np.testing.assert_allclose(value, sklearn.metrics.mean_squared_error(Y, X @ W), rtol=1e-6)
    np.testing.assert_allclose(out.metrics["mae"].value(), sklearn.metrics.mean_absolute_error(Y, X @ W), rtol=1e-6)
    assert value == out.metrics["loss"].value()
    assert out.metrics["loss"].weight == 6 and out.stats["seen"] == 5
    np.testing.assert_array_equal(out.stats["key"], jax.random.key_data(draw(jax.random.key(0), "model")))


def test_the_gradient_is_that_of_least_squares():
    gradient = jax.jit(jax.grad(lambda w: run(regress(linear), {"features": X, "target": Y}, w)[0]))(W)
    np.testing.assert_allclose(gradient, 2 / 18 * X.T @ (X @ W - Y), rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (losses.absolute_error, lambda p, t: jnp.abs(p - t)),
        (losses.huber(0.7), lambda p, t: optax.huber_loss(p, t, delta=0.7)),
        (losses.huber(1e6), lambda p, t: optax.l2_loss(p, t)),
    ],
)
def test_other_errors_and_one_output(error, theirs):
    one = lambda params, stats, x, key=None, train=False: (x @ params[:, 0], {})
    batch = {"x": X, "y": Y[:, 0]}
    loss = lambda w: run(regress(one, error=error, inputs="x", targets="y"), batch, w)[0]
    expected = lambda w: theirs(X @ w[:, 0], Y[:, 0]).mean()
    (value, slope), (same, slopes) = jax.jit(lambda w: [jax.value_and_grad(f)(w) for f in (loss, expected)])(W)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    np.testing.assert_allclose(slope, slopes, rtol=1e-5)


def test_padding_counts_in_nothing():
    mask = np.array([1, 1, 1, 1, 0, 0])
    poisoned = {"features": np.where(mask[:, None], X, np.nan), "target": Y, "mask": mask}
    expected, _ = run(regress(linear), {"features": X[:4], "target": Y[:4]})
    found, out = run(regress(linear), poisoned)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert out.metrics["mae"].weight == 4


def test_targets_that_would_be_broadcast_and_missing_fields_are_errors():
    with pytest.raises(UserError, match=r"predictions \[6, 3\] and targets \[6\] must have the same shape"):
        run(regress(linear), {"features": X, "target": Y[:, 0]})
    with pytest.raises(UserError, match="unknown batch field 'target'. Did you mean 'targets'"):
        run(regress(linear), {"features": X, "targets": Y})
