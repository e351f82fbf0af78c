"""A linear Gaussian model has a known likelihood and posterior: there the bound is the likelihood itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from research.core import Ctx, Trained
from research.errors import UserError
from research.metrics.generative import measure_likelihood
from research.objectives.vae import Posterior, bernoulli, divergence, gaussian, posterior, vae

RNG = np.random.default_rng(0)
# Orthogonal columns, so that the posterior of probabilistic PCA is a diagonal Gaussian.
W = np.linalg.qr(RNG.normal(size=(5, 2)))[0] * np.array([1.5, 0.7])
STD = 0.4
X = (RNG.normal(size=(8, 2)) @ W.T + STD * RNG.normal(size=(8, 5))).astype(np.float32)
PRECISION = np.diag(W.T @ W) / STD**2 + 1
PARAMS = {
    "encoder": {"w": jnp.float32(W / STD**2 / PRECISION), "log_variance": jnp.float32(-np.log(PRECISION))},
    "decoder": jnp.float32(W),
}


def encoder(params, stats, x, *, key=None, train=False):
    mean = x @ params["w"]
    return jnp.concatenate([mean, jnp.broadcast_to(params["log_variance"], mean.shape)], -1), {
        "seen": stats["seen"] + 1
    }


def decoder(params, stats, z, *, key=None, train=False):
    return z @ params.T, {}


def run(loss, key=0, **batch):
    return jax.jit(loss)(PARAMS, Ctx({"image": X, **batch}, {"seen": np.int32(0)}, jax.random.key(key), np.int32(0)))


def log_likelihood():
    return stats.multivariate_normal(np.zeros(5), W @ W.T + STD**2 * np.eye(5)).logpdf(X)


def test_with_the_true_posterior_the_bound_is_the_likelihood():
    loss = jax.jit(lambda key: run(vae(encoder, decoder, likelihood=gaussian(STD)), key)[0])
    found = np.mean([loss(key) for key in range(2000)])
    assert found == pytest.approx(-log_likelihood().mean(), abs=0.05)  # the standard error is 0.01
    measure = jax.jit(measure_likelihood(encoder, decoder, likelihood=gaussian(STD), samples=3))
    measured = measure(Trained(encoder, PARAMS, {"seen": 0}), {"image": X})
    # p(x, z) / q(z | x) is p(x) for every z, so three samples are as good as any number.
    np.testing.assert_allclose(measured["negative_bound"].value(), -log_likelihood().mean(), rtol=1e-5)
    worse = {**PARAMS, "decoder": PARAMS["decoder"] * 1.3}
    loose = measure(Trained(encoder, worse, {"seen": 0}), {"image": X})
    assert loose["negative_bound"].value() < loose["negative_elbo"].value()


def test_the_divergence_is_the_integral():
    q = Posterior(np.float32([[0.5, -1.0]]), np.float32([[-0.7, 0.4]]))
    z = np.linspace(-12, 12, 200_001)
    expected = 0
    for mean, log_variance in zip(q.mean[0], q.log_variance[0], strict=True):
        normal = stats.norm(mean, np.exp(log_variance / 2))
        expected += np.trapezoid(normal.pdf(z) * (normal.logpdf(z) - stats.norm.logpdf(z)), z)
    np.testing.assert_allclose(jax.jit(divergence)(q), [expected], rtol=1e-5)


def test_the_likelihoods_are_scipys():
    logits = RNG.normal(size=(4, 3)).astype(np.float32)
    x = RNG.integers(2, size=(4, 3)).astype(np.float32)
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum(-1)
    np.testing.assert_allclose(jax.jit(bernoulli)(logits, x), expected, rtol=1e-5)
    found = jax.jit(gaussian(0.3))(logits, x)
    np.testing.assert_allclose(found, stats.norm.logpdf(x, logits, 0.3).sum(-1), rtol=1e-5)


def test_beta_weights_the_divergence_padding_counts_in_nothing_and_the_noise_moves():
    one, five = (run(vae(encoder, decoder, likelihood=gaussian(STD), beta=beta)) for beta in (1, 5))
    apart = one[1].metrics["divergence"].value()
    np.testing.assert_allclose(five[0] - one[0], 4 * apart, rtol=1e-4)
    assert one[1].stats == {"seen": 1}
    mask = np.float32([1] * 6 + [0] * 2)
    loss = vae(encoder, decoder)
    poisoned, out = run(loss, image=np.where(mask[:, None] > 0, X, np.nan), mask=mask)
    assert np.isfinite(poisoned) and out.metrics["loss"].weight == 6
    assert run(loss, key=1)[0] != run(loss)[0]


def test_an_encoder_of_odd_width_is_an_error():
    with pytest.raises(UserError, match="even number; this one has 3"):
        posterior(jnp.zeros((2, 3)))
