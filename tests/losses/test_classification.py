import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import scipy.special

from research import losses
from research.errors import UserError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 7)).astype(np.float32) * 4
LABELS = RNG.integers(7, size=(3, 5))


def test_cross_entropy_is_that_of_scipy():
    expected = -np.take_along_axis(scipy.special.log_softmax(LOGITS.astype(np.float64), -1), LABELS[..., None], -1)
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), expected[..., 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_cross_entropy_and_its_gradient_are_those_of_optax(smoothing):
    def theirs(logits):
        soft = optax.smooth_labels(jax.nn.one_hot(LABELS, 7), smoothing)
        return optax.softmax_cross_entropy(logits, soft)

    def ours(logits):
        return losses.cross_entropy(logits, jnp.asarray(LABELS), smoothing=smoothing)

    np.testing.assert_allclose(ours(LOGITS), theirs(LOGITS), rtol=1e-5, atol=1e-6)
    gradients = [jax.grad(lambda x, f=f: f(x).sum())(jnp.asarray(LOGITS)) for f in (ours, theirs)]
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_probabilities_as_labels_are_those_of_optax():
    soft = scipy.special.softmax(RNG.normal(size=LOGITS.shape), -1).astype(np.float32)
    expected = optax.softmax_cross_entropy(LOGITS, soft)
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, soft), expected, rtol=1e-5)
    masked = np.array([[0.0, 1.0, -np.inf]], np.float32)
    np.testing.assert_allclose(
        losses.cross_entropy(masked, np.array([[0.5, 0.5, 0.0]], np.float32)), 0.5 + np.log1p(np.exp(-1)), rtol=1e-6
    )


@pytest.mark.parametrize("label", [-1, 7, 255])
def test_a_label_out_of_range_is_nan_and_only_that_one(label):
    labels = LABELS.copy()
    labels[1, 2] = label
    loss = np.asarray(losses.cross_entropy(LOGITS, labels))
    assert np.isnan(loss[1, 2]) and np.isnan(loss).sum() == 1


def test_large_and_half_precision_logits_lose_nothing():
    logits = jnp.asarray([[1e6, 1e6 + 1.0]])
    np.testing.assert_allclose(losses.cross_entropy(logits, jnp.array([0])), np.log1p(np.e), rtol=1e-6)
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    loss = losses.cross_entropy(half, LABELS)
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, losses.cross_entropy(half.astype(jnp.float32), LABELS))


def test_divergence_and_entropy_are_those_of_scipy_also_if_a_class_is_impossible():
    inf = np.inf
    p = np.array([[1, 2, -1], [0, 1, -inf], [0, 1, -inf], [2, -inf, -inf], [0, 0, 0], [0, -300, 3]], np.float32)
    q = np.array([[0, 2, 1], [2, 1, -inf], [2, 1, 5], [1, 0, -inf], [0, 1, -inf], [1, 0, 0]], np.float32)
    exact_p, exact_q = (scipy.special.softmax(x.astype(np.float64), -1) for x in (p, q))
    expected = scipy.special.rel_entr(exact_p, exact_q).sum(-1)
    assert expected[4] == inf and np.isfinite(np.delete(expected, 4)).all()
    np.testing.assert_allclose(losses.kl_divergence(p, q), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses.entropy(p), scipy.special.entr(exact_p).sum(-1), rtol=1e-5, atol=1e-7)
    slopes = jax.jit(jax.grad(lambda q, p: losses.kl_divergence(p, q).sum()))(np.delete(q, 4, 0), np.delete(p, 4, 0))
    np.testing.assert_allclose(slopes, np.delete(exact_q - exact_p, 4, 0), atol=1e-6)
    slopes = jax.jit(jax.grad(lambda p: losses.entropy(p).sum() + losses.kl_divergence(p, p).sum()))(p)
    surprise = -np.log(np.where(exact_p == 0, 1, exact_p))
    exact = exact_p * (surprise - scipy.special.entr(exact_p).sum(-1, keepdims=True))
    np.testing.assert_allclose(slopes, exact, atol=1e-6)


@pytest.mark.parametrize("length", [1e-3, 1, 1e10, 2e16, 1e20, 1e30])
def test_a_vector_of_any_length_becomes_one_of_length_1(length):
    direction = RNG.normal(size=(4, 40))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    x = (length * direction).astype(np.float32)
    normalize = jax.jit(losses.l2_normalize)
    np.testing.assert_allclose(normalize(x), direction, rtol=1e-5, atol=1e-7)
    # The derivative in direction w is (w - (w, u) u) / |x| for u = x / |x|.
    w = RNG.normal(size=40)
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(losses.l2_normalize(x) * w)))(x)
    slopes = length * np.asarray(slopes, np.float64)
    np.testing.assert_allclose(slopes, w - (direction @ w)[:, None] * direction, atol=1e-5)


def test_the_normal_of_a_zero_vector_is_zero():
    value, slopes = jax.value_and_grad(lambda x: losses.l2_normalize(x).sum())(jnp.zeros(3))
    assert value == 0 and np.isfinite(slopes).all()


def test_hits_take_numbers_and_probabilities():
    logits = jnp.eye(3)
    np.testing.assert_array_equal(losses.hits(logits, jnp.array([0, 2, 2])), [1, 0, 1])
    np.testing.assert_array_equal(losses.hits(logits, jnp.eye(3)[jnp.array([0, 2, 2])] * 0.6 + 0.1), [1, 0, 1])
    np.testing.assert_array_equal(losses.hits(logits.at[1, 2].set(jnp.nan), jnp.array([0, 0, 2])), [1, np.nan, 1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 5), np.float32), r"probabilities must have shape \[3, 5, 7\]"),
        (np.zeros((3, 5, 7), np.int32), r"class indices must have shape \[3, 5\]"),
        (np.zeros((3, 1), np.int32), r"class indices must have shape \[3, 5\]"),
        (np.zeros((3, 5), bool), "they are bool"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(labels, message, monkeypatch):
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=message):
        losses.cross_entropy(LOGITS, labels)
