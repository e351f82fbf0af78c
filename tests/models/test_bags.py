import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.data.readers.arrays import padded
from research.errors import UserError
from research.model import from_nnx
from research.models.bags import POOLINGS, BagClassifier
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)
BAGS = [RNG.normal(size=(n, 4)).astype(np.float32) for n in (3, 1, 5)]
X = padded(BAGS)


def built(pooling):
    return BagClassifier(4, hidden=(6,), num_classes=3, pooling=pooling, attention_width=5, rngs=nnx.Rngs(0))


def test_attention_is_the_papers():
    model = built("attention")
    logits, weights = jax.jit(lambda: (model(X, train=False), model.attention(X)))()
    array = lambda layer: (np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64))
    (first,), (v, v0), (u, u0), (w, w0), (head, head0) = (
        [array(model.layers[0])], array(model.v), array(model.u), array(model.w), array(model.head)
    )  # fmt: skip
    for bag, logit, weight in zip(BAGS, logits, weights, strict=True):
        h = np.maximum(bag @ first[0] + first[1], 0)
        scores = (np.tanh(h @ v + v0) / (1 + np.exp(-(h @ u + u0)))) @ w + w0
        a = np.exp(scores[:, 0]) / np.exp(scores).sum()
        np.testing.assert_allclose(weight[: len(bag)], a, rtol=1e-4)
        np.testing.assert_allclose(logit, (a @ h) @ head + head0, rtol=1e-4, atol=1e-5)
    assert (np.asarray(weights)[np.isnan(X).all(-1)] == 0).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_order_and_padding_do_not_count(pooling):
    model = from_nnx(lambda rngs: built(pooling))
    params, stats = fresh(model)

    @jax.jit
    def run(params, x):
        return jax.value_and_grad(lambda p: jnp.sum(model.apply(p, stats, x, train=False)[0] ** 2))(params)

    reference, slopes = run(params, X)
    turned = padded([bag[::-1] for bag in BAGS], length=8)
    turned = np.roll(turned, 2, axis=1)  # padding comes first
    value, gradient = run(params, turned)
    np.testing.assert_allclose(value, reference, rtol=1e-5)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, slopes)
    changed = X.copy()
    changed[2, 4] += 10
    assert abs(run(params, changed)[0] - reference) > 1e-3  # the last instance of a full bag counts


def test_unknown_poolings_and_bags_that_do_not_fit():
    with pytest.raises(UserError, match="unknown pooling 'attenton'.*attention"):
        built("attenton")
    with pytest.raises(UserError, match="array 2 has 5 entries; expected at most 4"):
        padded(BAGS, length=4)
    with pytest.raises(UserError, match=r"array 1 is \[2, 3\]; array 0 is \[3, 4\]"):
        padded([BAGS[0], np.ones((2, 3))])
