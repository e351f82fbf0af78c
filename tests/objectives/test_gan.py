"""Each player's gradient is its own; optimal discriminators and penalties have closed forms for linear players."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from research.core import Ctx, draw, gradient
from research.objectives.gan import HINGE, NON_SATURATING, WASSERSTEIN, gan

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype(np.float32)
PARAMS = {"generator": np.float32(RNG.normal(size=(2, 3))), "discriminator": np.float32([3, 0, 4])}
STATS = {"generator": {"n": np.int32(0)}, "discriminator": {"n": np.int32(0)}}


def generator(params, stats, z, *, key=None, train=False):
    return z @ params, {"generator": {"n": stats["generator"]["n"] + 1}}


def discriminator(params, stats, x, *, key=None, train=False):
    return x @ params, {"discriminator": {"n": stats["discriminator"]["n"] + 1}}


def ctx(key=0, **batch):
    return Ctx({"image": X, **batch}, STATS, jax.random.key(key), jnp.int32(0))


@pytest.mark.parametrize("game", [NON_SATURATING, HINGE, WASSERSTEIN])
def test_each_player_follows_the_gradient_of_its_own_loss(game):
    @jax.jit
    def both(ctx):
        z = jax.random.normal(draw(ctx.key, "latent"), (6, 2))
        of_d = jax.grad(lambda d: jnp.mean(game.discriminator(X @ d, z @ PARAMS["generator"] @ d)))
        of_g = jax.grad(lambda g: jnp.mean(game.generator(z @ g @ PARAMS["discriminator"])))
        found = gradient(gan(generator, discriminator, latent=2, game=game))(PARAMS, ctx)
        return found, of_d(PARAMS["discriminator"]), of_g(PARAMS["generator"])

    (grads, out), expected_d, expected_g = jax.device_get(both(ctx()))
    np.testing.assert_allclose(grads["discriminator"], expected_d, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grads["generator"], expected_g, rtol=1e-5, atol=1e-7)
    value = {name: float(state.value()) for name, state in out.metrics.items()}
    assert value["loss"] == pytest.approx(value["generator_loss"] + value["discriminator_loss"], rel=1e-6)
    assert out.stats == {"generator": {"n": 1}, "discriminator": {"n": 2}}


def test_the_losses_of_the_papers():
    real, fake = np.float32([0.3, -2]), np.float32([0.7, 3])
    sigmoid = lambda s: 1 / (1 + np.exp(-np.asarray(s)))
    np.testing.assert_allclose(
        NON_SATURATING.discriminator(real, fake), -np.log(sigmoid(real)) - np.log(1 - sigmoid(fake)), rtol=1e-5
    )
    np.testing.assert_allclose(NON_SATURATING.generator(fake), -np.log(sigmoid(fake)), rtol=1e-5)
    np.testing.assert_allclose(HINGE.discriminator(real, fake), [0.7 + 1.7, 3 + 4], rtol=1e-6)
    np.testing.assert_allclose(WASSERSTEIN.discriminator(real, fake), [0.4, 5], rtol=1e-6)
    np.testing.assert_array_equal(HINGE.generator(fake), -fake)


def test_the_penalty_of_a_linear_score_is_that_of_its_norm():
    plain = gan(generator, discriminator, latent=2, game=WASSERSTEIN)
    held = gan(generator, discriminator, latent=2, game=WASSERSTEIN, penalty=10)
    (value, out), (free, _) = jax.device_get(jax.jit(lambda ctx: (held(PARAMS, ctx), plain(PARAMS, ctx)))(ctx()))
    np.testing.assert_allclose(value - free, 10 * (5 - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["gradient_norm"].value(), 5, rtol=1e-5)


def test_against_a_still_generator_the_discriminator_becomes_a_logistic_regression():
    real, rest = RNG.normal(size=(400, 3)).astype(np.float32) + 1, np.float32(0)
    frozen = lambda params, stats, z, *, key=None, train=False: (z, {})
    score = lambda params, stats, x, *, key=None, train=False: (x @ params["w"] + params["b"], {})
    loss = gan(frozen, score, latent=3)
    here = Ctx({"image": real}, {}, jax.random.key(3), jnp.int32(0))

    @jax.jit
    def newton(flat):
        form = lambda flat: {"generator": rest, "discriminator": {"w": flat[:3], "b": flat[3]}}
        value = lambda flat: loss(form(flat), here)[1].metrics["discriminator_loss"].value()
        return flat - jnp.linalg.solve(jax.hessian(value)(flat), jax.grad(value)(flat))

    flat = np.zeros(4, np.float32)
    for _ in range(8):
        flat = newton(flat)
    fake = jax.random.normal(draw(jax.random.key(3), "latent"), (400, 3))
    points, labels = np.concatenate([real, fake]), np.repeat([1, 0], 400)
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(points, labels)
    np.testing.assert_allclose(flat, [*fitted.coef_[0], *fitted.intercept_], rtol=2e-3, atol=2e-3)


def test_padding_counts_in_nothing_and_fakes_change_with_the_key():
    loss = jax.jit(gan(generator, discriminator, latent=2, game=WASSERSTEIN, penalty=1))
    mask = np.float32([1, 1, 1, 1, 0, 0])
    poisoned = np.where(mask[:, None] > 0, X, np.nan)
    value, out = loss(PARAMS, ctx(image=poisoned, mask=mask))
    assert np.isfinite(value) and out.metrics["loss"].weight == 4
    first, second = (loss(PARAMS, ctx(key=key))[1].metrics["generator_loss"].value() for key in (0, 1))
    assert first != second
