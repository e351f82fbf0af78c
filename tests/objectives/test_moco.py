import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.augment.view import two_views
from research.core import Ctx, State, check_additive, gradient, train_step
from research.errors import UserError
from research.objectives.moco import enqueue, moco

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5)).astype(np.float32)
W = {"w": RNG.normal(size=(5, 2)).astype(np.float32)}
T = 0.4


def linear(params, stats, x, *, key=None, train=False):
    assert train
    return x @ params["w"], {"seen": stats["seen"] + 1}


def noisy(key, batch):
    return {**batch, "image": batch["image"] + 0.5 * jax.random.normal(key, batch["image"].shape)}


def same(key, batch):
    return batch


@functools.cache
def made(model=linear, *, view=same, size=7, momentum=0.9):
    return moco(model, view=view, width=2, size=size, momentum=momentum, temperature=T)


def stats_of(contrast, params=W, key=0):
    return {"seen": np.int32(0), "moco": jax.device_get(jax.jit(contrast.memory)(jax.random.key(key), params))}


def ctx(stats, batch=None, key=0):
    return Ctx(batch or {"image": X}, stats, jax.random.key(key), jnp.int32(0))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_equation_1_and_the_keys_join_the_queue():
    contrast = made()
    stats = stats_of(contrast)
    other = RNG.normal(size=(5, 2)).astype(np.float32)
    stats["moco"]["params"] = {"w": other}
    value, out = jax.jit(contrast.loss)(W, ctx(stats))
    q, k = unit(X @ np.asarray(W["w"])), unit(X @ other)
    queue = np.asarray(stats["moco"]["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=-1), 1, rtol=1e-5)
    terms, hits = [], []
    for i in range(3):
        positive, negatives = q[i] @ k[i], queue @ q[i]
        terms.append(-np.log(np.exp(positive / T) / (np.exp(positive / T) + np.exp(negatives / T).sum())))
        hits.append(positive > negatives.max())
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["accuracy"].value(), np.mean(hits))
    np.testing.assert_allclose(out.stats["moco"]["queue"], [*k, *queue[3:]], rtol=1e-5)
    assert out.stats["moco"]["next"] == 3
    # The query encoder's stats count once; the loss adds over examples.
    assert out.stats["seen"] == 1 and set(out.stats["moco"]) == {"queue", "next"}
    check_additive(out.metrics, by="accumulate")


def test_the_oldest_keys_make_room_around_the_end_and_padding_is_not_queued():
    state = {"queue": np.zeros((5, 1), np.float32), "next": np.int32(0)}
    expected, number, put = [0.0] * 5, 0, jax.jit(enqueue)
    for mask in ([1, 1, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]):
        keys = np.arange(3, dtype=np.float32)[:, None] + 10 * (number + 1)
        state = jax.device_get(put(**state, keys=keys, weights=np.float32(mask)))
        for key, real in zip(keys[:, 0].tolist(), mask, strict=True):
            if real:
                expected[number % 5] = key
                number += 1
        np.testing.assert_array_equal(state["queue"][:, 0], expected)
        assert state["next"] == number % 5 and state["next"].dtype == jnp.int32


def test_padding_counts_in_nothing():
    contrast = made()
    stats = stats_of(contrast)
    masked = {"image": np.where([[1], [0], [1]], X, np.nan).astype(np.float32), "mask": np.array([1, 0, 1])}
    value, out = jax.jit(contrast.loss)(W, ctx(stats, masked))
    expected, alone = jax.jit(contrast.loss)(W, ctx(stats, {"image": X[[0, 2]]}))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert out.metrics["loss"].weight == 2
    np.testing.assert_allclose(out.stats["moco"]["queue"], alone.stats["moco"]["queue"], rtol=1e-6)
    assert out.stats["moco"]["next"] == 2


def test_no_gradient_flows_into_the_keys():
    contrast = made(view=noisy)
    stats = stats_of(contrast)
    first, second = two_views(jax.random.key(0), {"image": X}, view=noisy)
    keys = unit(np.asarray(second @ W["w"]))

    def fixed(params):
        q = first @ params["w"]
        q = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
        logits = jnp.concatenate([jnp.sum(q * keys, -1, keepdims=True), q @ stats["moco"]["queue"].T], -1) / T
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.zeros(3, int)).mean()

    # At the start the key encoder has the params of the query encoder, and still is none of them.
    grads, _ = jax.jit(gradient(contrast.loss))(W, ctx(stats))
    np.testing.assert_allclose(grads["w"], jax.jit(jax.grad(fixed))(W)["w"], rtol=1e-4, atol=1e-6)


def test_the_key_encoder_follows_by_the_recursion_of_equation_2_over_steps():
    contrast = made(view=noisy)
    step = jax.jit(train_step(gradient(contrast.loss), optax.sgd(0.5), (contrast.after,)))
    state = State(np.uint32(0), np.uint32(0), np.int32(0), W, stats_of(contrast), optax.sgd(0.5).init(W))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    expected, queues = np.asarray(W["w"], np.float64), [np.asarray(state.stats["moco"]["queue"])]
    for _ in range(4):
        state, _ = jax.device_get(step(state, {"image": X}))
        expected = 0.9 * expected + 0.1 * np.asarray(state.params["w"], np.float64)
        np.testing.assert_allclose(state.stats["moco"]["params"]["w"], expected, rtol=1e-5)
        queues.append(np.asarray(state.stats["moco"]["queue"]))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
    # Three keys a step in a queue of seven: after step 3 the first two of them stand at the beginning again.
    np.testing.assert_array_equal(queues[3][2:6], queues[2][2:6])
    assert (queues[3][:2] != queues[2][:2]).any(1).all() and (queues[3][6] != queues[2][6]).any()
    params, _ = contrast.view(state)
    np.testing.assert_array_equal(params["w"], state.stats["moco"]["params"]["w"])
    assert (params["w"] != state.params["w"]).any()
    # Without momentum the key encoder is the query encoder.
    now = made(momentum=0.0).after(state, state.params)
    np.testing.assert_array_equal(now["moco"]["params"]["w"], state.params["w"])


def test_views_models_and_queues_have_keys_of_their_own():
    @jax.jit
    def seen(ctx):
        caught, keys = [], []

        def catching(params, stats, x, *, key=None, train=False):
            caught.append(x)
            keys.append(jax.random.key_data(key))
            return linear(params, stats, x, train=train)

        made(catching, view=noisy).loss(W, ctx)
        return caught, keys

    contrast = made(view=noisy)
    views, keys = zip(*[jax.device_get(seen(ctx(stats_of(contrast), key=key))) for key in (0, 1)], strict=True)
    caught = [*views[0], *views[1]]
    assert all((a != b).all() for i, a in enumerate(caught) for b in caught[:i])
    assert len(caught) == len(np.unique(np.concatenate(keys), axis=0)) == 4
    queues = [stats_of(contrast, key=key)["moco"]["queue"] for key in (0, 1)]
    assert (queues[0] != queues[1]).all()


def test_what_does_not_fit_is_an_error():
    zeros = lambda like: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    empty = lambda contrast: {"seen": np.int32(0), "moco": zeros(jax.eval_shape(contrast.memory, jax.random.key(0), W))}
    wide = moco(linear, view=same, width=3)
    with pytest.raises(UserError, match=r"embeddings \[3, 2\], but moco has width=3"):
        wide.loss(W, ctx(empty(wide)))
    short = made(size=2)
    with pytest.raises(UserError, match="a batch of 3 keys does not fit moco's queue of 2"):
        short.loss(W, ctx(empty(short)))
