import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.errors import UserError
from research.layers.batch_norm import BatchNorm
from research.model import from_nnx

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(8, 3, 3, 5)) * RNG.uniform(1, 3, 5) + RNG.normal(size=5)).astype(np.float32)


class Theirs(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(5, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x, *, train, rngs=None):
        return self.norm(x, use_running_average=not train)


def run(model, x, *, train):
    @jax.jit
    def both(key, x):
        return model.apply(*model.init(key), x, train=train)

    y, changed = jax.device_get(both(jax.random.key(0), x))
    return y, changed.get("model", {})


def ours(group_size=None):
    return from_nnx(lambda rngs: BatchNorm(5, group_size=group_size))


def test_the_whole_batch_as_one_group_is_flax():
    y, stats = run(ours(), X, train=True)
    expected, their_stats = run(from_nnx(Theirs), X, train=True)
    np.testing.assert_allclose(y, expected, atol=2e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], their_stats["norm"][name], atol=1e-5)
        assert abs(np.asarray(stats[name]) - (name == "var")).max() > 0.01


def test_groups_are_what_every_device_would_compute_and_their_statistics_are_averaged():
    y, stats = run(ours(group_size=4), X, train=True)
    per_device = [run(from_nnx(Theirs), x, train=True) for x in (X[:4], X[4:])]
    np.testing.assert_allclose(y, np.concatenate([y for y, _ in per_device]), atol=2e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], np.mean([s["norm"][name] for _, s in per_device], 0), atol=1e-5)
    assert abs(np.asarray(y - run(ours(), X, train=True)[0])).max() > 0.05


def test_gradients_are_those_of_every_device():
    def slope(model):
        total = lambda x: jnp.sum(model.apply(*model.init(jax.random.key(0)), x, train=True)[0] ** 3)
        return jax.jit(jax.grad(total))

    theirs = slope(from_nnx(Theirs))
    expected = np.concatenate([theirs(x) for x in (X[:4], X[4:])])
    np.testing.assert_allclose(slope(ours(group_size=4))(X), expected, atol=1e-3)


def test_evaluation_uses_the_running_statistics_and_changes_nothing():
    model = ours()
    params, _ = jax.jit(model.init)(jax.random.key(0))
    stats = {"model": {"mean": np.arange(5, dtype=np.float32), "var": np.full(5, 4, np.float32)}}
    y, changed = jax.jit(lambda x: model.apply(params, stats, x, train=False))(X)
    np.testing.assert_allclose(y, (X - np.arange(5)) / np.sqrt(4 + 1e-5), rtol=1e-5, atol=1e-6)
    assert changed == {}


def test_half_precision_in_and_out_with_statistics_in_f32():
    y, stats = run(ours(), X.astype(jnp.bfloat16), train=True)
    assert y.dtype == jnp.bfloat16 and stats["mean"].dtype == jnp.float32
    np.testing.assert_allclose(y.astype(np.float32), run(ours(), X, train=True)[0], atol=0.05)


def test_a_batch_that_is_no_multiple_of_the_group_is_an_error():
    with pytest.raises(UserError, match="8 examples cannot be split into BatchNorm groups of 3"):
        run(ours(group_size=3), X, train=True)


@pytest.mark.parametrize("shape", [(32, 1, 1, 5), (64, 5), (4, 9, 7, 5), (2, 30, 5)])
@pytest.mark.parametrize("mean", [0, 100, 1000])
def test_features_far_from_0_have_the_moments_of_f64(shape, mean):
    x = (RNG.normal(size=shape) * RNG.uniform(0.5, 2, 5) + mean).astype(np.float32)
    x[0, ..., 0] = 0  # an example unlike the others
    found, stats = run(ours(), x, train=True)
    exact = x.astype(np.float64).reshape(-1, 5)
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * exact.var(0), rtol=2e-5)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(found.reshape(-1, 5), expected, atol=1e-6 * max(mean, 10))


def test_the_gradient_is_that_of_f64():
    x, w = (RNG.normal(size=(6, 4, 4, 5)).astype(np.float32) + offset for offset in (100, 0))
    params, stats = MODEL.init(jax.random.key(0))
    found = jax.jit(jax.grad(lambda x: jnp.sum(MODEL.apply(params, stats, x, train=True)[0] * w)))(x)
    # Ioffe & Szegedy 2015, section 3: the derivative with respect to x, of scale 1.
    exact, dy = x.astype(np.float64).reshape(-1, 5), w.astype(np.float64).reshape(-1, 5)
    deviation = np.sqrt(exact.var(0) + 1e-5)
    y = (exact - exact.mean(0)) / deviation
    expected = (dy - dy.mean(0) - y * (y * dy).mean(0)) / deviation
    np.testing.assert_allclose(found.reshape(-1, 5), expected, atol=1e-4)


MODEL = from_nnx(lambda rngs: BatchNorm(5))
