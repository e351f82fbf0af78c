import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, NotAdditive, check_additive
from research.errors import UserError
from research.objectives.simclr import simclr

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6)).astype(np.float32)
W = jnp.asarray(RNG.normal(size=(6, 4)).astype(np.float32))
T = 0.3


def linear(params, stats, x, *, key=None, train=False):
    """Embeddings; stats show the views that came."""
    assert train
    return x @ params, {"views": x}


def noisy(key, batch):
    return {**batch, "image": batch["image"] + 0.5 * jax.random.normal(key, batch["image"].shape)}


LOSS = simclr(linear, view=noisy, temperature=T)
run = jax.jit(jax.value_and_grad(LOSS, has_aux=True))


def ctx(batch, key=0):
    return Ctx(batch, {}, jax.random.key(key), jnp.int32(0))


def views_of(out):
    return np.split(np.asarray(out.stats["views"], np.float64), 2)


def brute(first, second):
    """Equation 1 of Chen et al. 2020, term by term, and how often the partner is the most similar of all."""
    z = np.concatenate([first, second]) @ np.asarray(W, np.float64)
    n = len(first)
    sim = lambda a, b: a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)
    terms, hits = [], []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = {k: sim(z[i], z[k]) for k in range(2 * n) if k != i}
        terms.append(-np.log(np.exp(others[j] / T) / sum(np.exp(s / T) for s in others.values())))
        hits.append(max(others, key=others.get) == j)
    return np.mean(terms), np.mean(hits)


def test_the_loss_is_equation_1_of_the_paper():
    (value, out), _ = run(W, ctx({"image": X}))
    loss, accuracy = brute(*views_of(out))
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    assert value == out.metrics["loss"].value() and out.metrics["loss"].weight == 10
    np.testing.assert_allclose(out.metrics["accuracy"].value(), accuracy)
    assert 0 < accuracy < 1


def test_padding_is_neither_anchor_nor_negative():
    mask = np.array([1, 0, 1, 1, 0])
    (expected, out), grads = run(W, ctx({"image": X, "mask": mask}))
    loss, accuracy = brute(*(view[mask > 0] for view in views_of(out)))
    for padding in (None, 7.0, np.nan):
        given = X if padding is None else np.where(mask[:, None], X, np.float32(padding))
        (value, out), found = run(W, ctx({"image": given, "mask": mask}))
        np.testing.assert_allclose(value, loss, rtol=1e-5)
        np.testing.assert_allclose(out.metrics["accuracy"].value(), accuracy)
        assert out.metrics["loss"].weight == 6
        if padding == 7.0:  # the gradient too is that of the real examples alone
            np.testing.assert_allclose(found, grads, rtol=1e-4, atol=1e-6)
    assert np.abs(grads).max() > 0


def test_without_negatives_there_is_nothing_to_learn():
    for real in (1, 0):
        (value, _), grads = run(W, ctx({"image": X, "mask": np.array([0, 0, real, 0, 0])}))
        assert value == 0 and not np.asarray(grads).any()


def test_the_two_views_differ_and_change_with_the_key():
    views = [view for key in (0, 1) for view in views_of(run(W, ctx({"image": X}, key))[0][1])]
    assert all((a != b).all() for i, a in enumerate(views) for b in views[:i])


def test_it_may_not_be_split_and_needs_its_field():
    out = jax.eval_shape(LOSS, W, ctx({"image": X}))[1]
    assert isinstance(out.metrics["loss"], NotAdditive)
    with pytest.raises(UserError, match="accumulate splits the batch"):
        check_additive(out.metrics, by="accumulate")
    with pytest.raises(UserError, match="unknown batch field 'image'"):
        jax.eval_shape(simclr(linear, view=lambda key, batch: batch), W, ctx({"picture": X}))
