import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from research.core import Ctx, draw
from research.errors import UserError
from research.objectives.classify import classify
from research.objectives.trades import trades
from research.robust.norms import linf

RNG = np.random.default_rng(0)
X = RNG.uniform(1, 9, size=(6, 4)).astype(np.float32)
Y = RNG.integers(3, size=6)
W = RNG.normal(size=(4, 3)).astype(np.float32)
WITHIN = dict(epsilon=0.3, steps=3, bounds=(0, 9))


def noisy(params, stats, x, *, key=None, train=False):
    assert train
    kept = jax.random.bernoulli(key, 0.7, x.shape)
    return (x.astype(jnp.float32) * kept) @ params, {"seen": stats["seen"] + x.sum()}


def two(params, stats, x, *, key=None, train=False):
    """Two classes, one feature: logits 0 and w x."""
    return jnp.stack([0 * x[:, 0], params * x[:, 0]], -1), {}


def context(batch, key=0):
    return Ctx(batch, {"seen": jnp.float32(4)}, jax.random.key(key), jnp.int32(0))


BATCH = {"image": X, "label": Y}


def both(loss, ctx, params=W):
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, ctx)


def test_with_beta_0_or_epsilon_0_it_is_classify():
    flipped = lambda key, batch: {**batch, "image": batch["image"] + jax.random.normal(key) ** 2}
    ctx = context(BATCH)
    (value, out), grads = both(classify(noisy, smoothing=0.1, augment=flipped), ctx)
    for beta, epsilon in ((0.0, 0.3), (2.0, 0.0)):
        made = trades(
            noisy, beta=beta, smoothing=0.1, augment=flipped, **{**WITHIN, "epsilon": epsilon, "bounds": None}
        )
        (found, more), slopes = both(made, ctx)
        np.testing.assert_allclose(found, value, rtol=1e-6)
        np.testing.assert_allclose(slopes, grads, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(more.stats["seen"], out.stats["seen"])
        assert more.metrics["accuracy"].value() == out.metrics["accuracy"].value()
        assert (more.metrics["divergence"].value() > 1e-3) == (epsilon > 0)


def test_the_loss_and_its_gradient_are_the_closed_form_of_two_classes():
    # KL(sigmoid(wx) || sigmoid(w(x + d))) grows with |d|, so the worst is at one end of the ball.
    x, y, w, epsilon, beta = np.array([0.4, -1.0, 2.0]), np.array([1, 0, 0]), 1.3, 0.5, 3.0
    made = trades(two, beta=beta, epsilon=epsilon, steps=12, bounds=None)
    (value, out), slope = both(made, context({"image": x[:, None].astype(np.float32), "label": y}, 2), jnp.float32(w))

    def closed(w, ends):
        p, q = scipy.special.expit(w * x), scipy.special.expit(w * (x + ends * epsilon))
        kl = scipy.special.kl_div(p, q) + scipy.special.kl_div(1 - p, 1 - q)
        return np.logaddexp(0, -(2 * y - 1) * w * x), kl

    # The ascent goes to the end on whose side it starts.
    sample = jax.vmap(lambda i: linf.sample(draw(jax.random.key(2), "attack", i), (1,), epsilon)[0])
    ends = np.sign(jax.jit(sample)(np.arange(3)))
    assert set(ends) == {-1, 1}
    ce, kl = closed(w, ends)
    np.testing.assert_allclose(out.metrics["divergence"].value(), kl.mean(), rtol=1e-4)
    np.testing.assert_allclose(value, ce.mean() + beta * kl.mean(), rtol=1e-4)
    # Both passes are differentiated, the ends are not.
    total = lambda w: (lambda ce, kl: ce.mean() + beta * kl.mean())(*closed(w, ends))
    np.testing.assert_allclose(slope, (total(w + 1e-5) - total(w - 1e-5)) / 2e-5, rtol=1e-3)


def test_the_start_moves_with_the_key_and_padding_counts_in_nothing():
    mask = np.array([1, 1, 1, 1, 0, 0], np.float32)
    plain = lambda params, stats, x, key=None, train=False: (x @ params, {})
    loss = jax.jit(trades(plain, beta=2.0, epsilon=0.3, steps=1, step_size=0.1, bounds=(0, 9)))
    poisoned = {**BATCH, "image": np.where(mask[:, None] > 0, X, np.nan), "mask": mask}
    real = {name: value[:4] for name, value in BATCH.items()}
    (padded, out), (alone, _), (other, _) = (
        loss(W, context(poisoned)), loss(W, context(real)), loss(W, context(real, key=1)),
    )  # fmt: skip
    np.testing.assert_allclose(padded, alone, rtol=1e-5)
    assert out.metrics["adversarial_accuracy"].weight == 4 and alone != other


def test_a_missing_field_is_an_error():
    with pytest.raises(UserError, match="unknown batch field 'label'"):
        trades(noisy, beta=1.0, **WITHIN)(W, context({"image": X}))
