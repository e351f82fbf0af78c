"""Values and gradients of losses beside those of PyTorch and its libraries, optax and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
import sklearn.utils

from research import losses
from tests.truth import load

TRUTH = load("torch_losses")
INF = float("inf")


def mined(mining):
    """The mean over what the library averages: triplets with a loss, anchors with hard ones."""

    def loss(embeddings, labels):
        anchors = losses.mined_triplet(embeddings, labels, margin=0.7, mining=mining)
        if mining == "hard":
            some = anchors.loss > 0
            return jnp.sum(anchors.loss) / jnp.sum(some)
        # An anchor's loss is a mean over its triplets; their numbers are counted here by loops.
        counts = triplets(np.asarray(TRUTH[f"mined_{mining}_0"]), np.asarray(labels), mining)
        return jnp.sum(anchors.loss * counts) / counts.sum()

    return loss


def triplets(x, labels, mining, margin=0.7):
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    counts = np.zeros(len(x))
    for a in range(len(x)):
        for p in range(len(x)):
            for n in range(len(x)):
                if labels[a] == labels[p] != labels[n] and a != p and d[a, n] < d[a, p] + margin:
                    counts[a] += mining == "all" or d[a, p] < d[a, n]
    return counts


CASES = {
    "bce": losses.binary_cross_entropy,
    "bce_weighted": lambda x, y, w: losses.binary_cross_entropy(x, y, positive_weight=w),
    "focal": losses.binary_focal(2.0, alpha=0.25),
    "smooth_l1": losses.smooth_l1(0.3),
    "poisson": losses.poisson,
    "dice": losses.dice(),
    "tversky": losses.tversky(0.3, 0.7),
    "lovasz": losses.lovasz,
    "lovasz_absent": losses.lovasz,
    "ctc": lambda x, y, steps, n: losses.ctc(x, y, logit_lengths=steps, label_lengths=n, blank=2),
    "triplet": losses.triplet(1.5),
    "contrastive": losses.contrastive(1.2),
    "mined_hard": mined("hard"),
    "mined_semi_hard": mined("semi_hard"),
    "mined_all": mined("all"),
    "info_nce": lambda q, k: losses.info_nce(q, k, temperature=0.2),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_library(name):
    arrays = [TRUTH[f"{name}_{i}"] for i in range(4) if f"{name}_{i}" in TRUTH]

    def total(x, *rest):
        value = CASES[name](x, *rest)
        return value.sum(), value

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(arrays[0]), *arrays[1:])
    np.testing.assert_allclose(value, TRUTH[f"{name}_value"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, TRUTH[f"{name}_gradient"], rtol=1e-4, atol=1e-6)


def test_every_stored_value_is_compared():
    assert {key.rsplit("_", 1)[0] for key in TRUTH} - {"versions"} == CASES.keys()


def test_margins_and_log_cosh_are_those_of_optax():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(6, 4)).astype(np.float32) * 2, rng.integers(4, size=6)
    signs = rng.choice([-1, 1], size=(6, 4))
    np.testing.assert_allclose(losses.hinge(x, (signs + 1) // 2), optax.hinge_loss(x, signs), rtol=1e-6)
    np.testing.assert_allclose(
        losses.multiclass_hinge(x, labels), optax.losses.multiclass_hinge_loss(x, labels), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(losses.log_cosh(x, 0 * x), optax.log_cosh(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.log_cosh(np.float32([1e4]), np.float32([0])), 1e4 - np.log(2), rtol=1e-6)


def test_numbers_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    log_mean, y = rng.normal(size=50).astype(np.float32), rng.gamma(1.0, size=50).astype(np.float32)
    for q in (0.1, 0.5, 0.9):
        expected = sklearn.metrics.mean_pinball_loss(y, log_mean, alpha=q)
        np.testing.assert_allclose(losses.quantile(q)(log_mean, y).mean(), expected, rtol=1e-5)
    for power in (1.0, 1.5, 2.0):
        loss = losses.tweedie(power)
        deviance = 2 * (loss(log_mean, y) - loss(np.log(y), y)).mean()
        expected = sklearn.metrics.mean_tweedie_deviance(y, np.exp(log_mean), power=power)
        np.testing.assert_allclose(deviance, expected, rtol=1e-4)
    assert (
        np.isfinite(losses.tweedie(1.5)(log_mean, 0 * y)).all() and np.isnan(losses.tweedie(2.0)(log_mean, 0 * y)).all()
    )


def test_class_balanced_weights_lie_between_equal_and_inverse_frequency():
    counts = np.array([500, 20, 3])
    balanced = sklearn.utils.class_weight.compute_class_weight(
        "balanced", classes=np.arange(3), y=np.repeat([0, 1, 2], counts)
    )
    np.testing.assert_allclose(losses.class_balanced(counts, beta=1), balanced / balanced.mean(), rtol=1e-6)
    np.testing.assert_array_equal(losses.class_balanced(counts, beta=0), 1)
    # The paper's own code, for beta 0.99.
    weights = (1 - 0.99) / (1 - np.power(0.99, counts))
    np.testing.assert_allclose(losses.class_balanced(counts, beta=0.99), weights / weights.sum() * 3, rtol=1e-6)
