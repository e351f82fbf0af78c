import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from research.core import Ctx, Mean, Out, draw, gradient, not_additive, weighted_mean
from research.distributed.sharding import make_mesh, place
from research.errors import UserError
from research.fields import example_weights
from research.gradients.private import private
from research.layers.batch_norm import BatchNorm
from research.model import from_nnx
from research.objectives.classify import classify
from research.tree import shapes

RNG = np.random.default_rng(0)
B, D, C = 12, 5, 3
X = (RNG.normal(size=(B, D)) * np.geomspace(0.1, 3, B)[:, None]).astype(np.float32)
Y = RNG.integers(C, size=B).astype(np.int32)
MASK = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1], np.float32)
PARAMS = {"w": RNG.normal(size=(D, C)).astype(np.float32), "b": np.zeros(C, np.float32)}
REAL = int(MASK.sum())


def linear(params, stats, x, *, key=None, train=False):
    return x @ params["w"] + params["b"], {}


LOSS = classify(linear)
PLAIN = jax.jit(gradient(LOSS))
BATCH = {"image": X, "label": Y, "mask": MASK}


@functools.cache
def compiled(loss, **knobs):
    return jax.jit(private(loss, **{"clip": 1.0, "noise": 0.0, "expected": 8.0, **knobs}))


def estimate(batch=BATCH, loss=LOSS, *, key=0, params=PARAMS, stats=None, **knobs):
    return jax.device_get(compiled(loss, **knobs)(params, Ctx(batch, stats or {}, jax.random.key(key), np.int32(0))))


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6, **tolerance}), a, b)


def by_hand(clip):
    """The clipped gradients of softmax regression, an example at a time: (sum of w's, sum of b's, all norms)."""
    w, b, norms = np.zeros((D, C)), np.zeros(C), []
    for x, y in zip(X[MASK > 0].astype(np.float64), Y[MASK > 0], strict=True):
        p = np.exp(x @ np.asarray(PARAMS["w"], np.float64))
        error = p / p.sum() - np.eye(C)[y]
        norms.append(math.sqrt(((np.outer(x, error)) ** 2).sum() + (error**2).sum()))
        scale = min(1.0, clip / norms[-1])
        w, b = w + scale * np.outer(x, error), b + scale * error
    return w, b, np.array(norms)


@pytest.mark.parametrize("microbatch", [None, 3])
def test_it_clips_every_example_by_itself_and_divides_by_the_expected_size(microbatch):
    w, b, norms = by_hand(1.0)
    assert 0.2 < np.mean(norms > 1.0) < 0.8, "the test needs both kinds"
    grads, out = estimate(microbatch=microbatch)
    close(grads, {"w": w / 8, "b": b / 8})
    exact, plain = jax.device_get(PLAIN(PARAMS, Ctx(BATCH, {}, jax.random.key(0), np.int32(0))))
    close(out.metrics["loss"], plain.metrics["loss"])
    close(out.metrics["accuracy"], plain.metrics["accuracy"])
    close(out.metrics["clipped_examples"], Mean(np.sum(norms > 1.0), REAL))
    close(out.metrics["example_norm"], Mean(norms.sum(), REAL))
    close(out.metrics["nonfinite_examples"], Mean(0, REAL))
    assert out.stats == {}


def test_without_clip_and_noise_it_is_the_gradient():
    params = {**PARAMS, "w": PARAMS["w"].astype(jnp.bfloat16)}
    for chosen in (PARAMS, params):
        exact, _ = PLAIN(chosen, Ctx(BATCH, {}, jax.random.key(0), np.int32(0)))
        grads, out = estimate(params=chosen, clip=math.inf, expected=REAL)
        assert shapes(grads) == shapes(exact)
        half = chosen is params
        close(jax.tree.map(np.float32, grads), jax.tree.map(np.float32, exact), rtol=1e-2 if half else 1e-5, atol=1e-3)
        assert out.metrics["clipped_examples"].value() == 0


def test_optax_agrees():
    examples = jax.jit(jax.vmap(lambda x, y: jax.grad(lambda p: LOSS(p, _alone(x, y))[0])(PARAMS)))(X, Y)
    theirs = optax.contrib.differentially_private_aggregate(1.0, 0.0, key=0)
    expected, _ = jax.jit(theirs.update)(examples, theirs.init(PARAMS))
    found, _ = estimate({**BATCH, "mask": np.ones(B, np.float32)})
    close(jax.tree.map(lambda g: g * 8 / B, found), expected)


def _alone(x, y):
    return Ctx({"image": x[None], "label": y[None]}, {}, jax.random.key(0), jnp.int32(0))


def test_noise_has_its_size_changes_with_the_key_and_not_with_the_microbatch():
    params = {"w": np.zeros((400, 100), np.float32), "b": np.zeros((100, 50), np.float32)}

    def flat(params, ctx):
        mean = weighted_mean(ctx.batch["x"] * params["w"][0, 0], example_weights(ctx.batch, len(ctx.batch["x"])))
        return mean.value(), Out({}, {"loss": mean})

    batch = {"x": np.zeros(4, np.float32)}
    knobs = {"loss": flat, "params": params, "clip": 0.5, "noise": 3.0, "expected": 2.0}
    first, again = (estimate(batch, key=1, **knobs)[0] for _ in range(2))
    for name, x in first.items():
        # The standard deviation of n samples is known to one part in sqrt(2 n).
        assert abs(np.std(x) / (3.0 * 0.5 / 2.0) - 1) < 5 / math.sqrt(2 * x.size), name
        assert abs(np.mean(x)) < 5 * 0.75 / math.sqrt(x.size)
    close(first, again, rtol=0, atol=0)
    close(first, estimate(batch, key=1, microbatch=1, **knobs)[0], rtol=0, atol=0)
    other = estimate(batch, key=2, **knobs)[0]
    for a, b in ((first["w"], other["w"]), (first["w"].ravel()[:5000], first["b"].ravel())):
        assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < 5 / math.sqrt(b.size)


def test_four_devices_give_what_one_gives():
    mesh = make_mesh({"data": 4}, devices=jax.devices()[:4])
    expected, plain = estimate(noise=1.0, microbatch=4)
    found, out = estimate(place(BATCH, mesh), noise=1.0, microbatch=4)
    close(found, expected)
    close(out.metrics, plain.metrics)


def test_adding_an_example_moves_the_sum_by_at_most_clip_and_replacing_one_by_twice_that():
    gross = {**BATCH, "image": X.copy(), "mask": np.ones(B, np.float32)}
    gross["image"][4] *= 1e4
    moves = []
    for row in range(B):
        without = {**gross, "mask": np.where(np.arange(B) == row, 0, 1).astype(np.float32)}
        replaced = {**gross, "image": gross["image"].copy(), "label": (Y + (np.arange(B) == row)) % C}
        replaced["image"][row] = -gross["image"][(row + 4) % B]
        whole_sum, less, other = (
            np.append(grads["w"], grads["b"]) for grads, _ in map(estimate, (gross, without, replaced))
        )
        moves.append([np.linalg.norm(whole_sum - x) for x in (less, other)])
    added, swapped = 8 * np.array(moves).T  # the estimate is the sum over the expected size
    assert added.max() <= 1.0 * (1 + 1e-4) and added.max() > 1.0 * 0.999, "clipped examples add exactly clip"
    assert 1.5 < swapped.max() <= 2.0 * (1 + 1e-4)


def test_padding_and_examples_that_are_not_finite_add_nothing():
    poisoned = {**BATCH, "image": np.where(MASK[:, None] > 0, X, np.nan)}
    expected, plain = estimate()
    found, out = estimate(poisoned)
    close(found, expected, rtol=0, atol=0)
    close(out.metrics, plain.metrics, rtol=0, atol=0)
    broken = {**BATCH, "image": X.copy()}
    broken["image"][5], broken["image"][6], broken["image"][8] = np.nan, 1e30, np.inf
    without = {**BATCH, "mask": np.where(np.isin(np.arange(B), [5, 6, 8]), 0, MASK).astype(np.float32)}
    for knobs in ({}, {"clip": math.inf, "expected": REAL}):
        found, out = estimate(broken, **knobs)
        expected, plain = estimate(without, **knobs)
        close(found, expected)
        assert out.metrics["nonfinite_examples"] == Mean(3, REAL)
        for name in ("loss", "accuracy", "clipped_examples", "example_norm"):
            close(out.metrics[name], plain.metrics[name])


def test_a_row_has_a_key_of_its_own_and_it_does_not_depend_on_the_microbatch():
    def noisy(params, ctx):
        drawn = jax.random.normal(ctx.key, ())
        mean = Mean(drawn * params.sum(), jnp.float32(1))
        slots = jax.nn.one_hot(ctx.batch["row"][0], 6)
        return mean.value(), Out({}, {"loss": mean, "drawn": Mean(slots * drawn, jnp.float32(1))})

    batch = {"row": np.arange(6)}
    seen = [
        estimate(batch, noisy, key=key, params=np.ones(2, np.float32), microbatch=rows)[1].metrics["drawn"].sum
        for key, rows in ((0, None), (0, 2), (0, 1), (1, None))
    ]
    alone = jax.vmap(lambda row: jax.random.normal(draw(jax.random.key(0), "example", row)))
    close(seen[0], jax.jit(alone)(np.arange(6)))
    close(seen[0], seen[1], rtol=0)
    close(seen[0], seen[2], rtol=0)
    assert len({float(x) for x in np.concatenate([seen[0], seen[3]])}) == 12


class Normed(nnx.Module):
    def __init__(self, rngs, group_size):
        self.norm, self.head = BatchNorm(D, group_size=group_size), nnx.Linear(D, C, rngs=rngs)
        self.table = nnx.BatchStat(jnp.arange(2.0)) if group_size is None else None

    def __call__(self, x, *, train, rngs=None):
        return self.head(self.norm(x, train=train))


class Fixed(nnx.Module):
    def __init__(self, rngs):
        self.head, self.table = nnx.Linear(D, C, rngs=rngs), nnx.Variable(jnp.ones(D))

    def __call__(self, x, *, train, rngs=None):
        return self.head(x * self.table[...])


@pytest.mark.parametrize("group_size", [None, 6])
def test_batch_norm_is_refused_by_its_path(group_size):
    model = from_nnx(lambda rngs: Normed(rngs, group_size))
    params, stats = jax.jit(model.init)(jax.random.key(0))
    with pytest.raises(UserError, match="stats/model/norm/mean.*BatchNorm"):
        estimate(loss=classify(model), params=params, stats=stats)


def test_stats_that_the_loss_leaves_alone_are_allowed():
    model = from_nnx(Fixed)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    grads, out = estimate(loss=classify(model), params=params, stats={**stats, "memory": np.zeros(3)})
    assert out.stats == {} and any(np.any(g != 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"clip": 0.0}, "clip=0.0; expected a positive norm"),
        ({"clip": math.nan}, "clip=nan"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"noise": 1.0, "clip": math.inf}, "noise=1.0 and clip=inf"),
        ({"expected": 0}, "expected=0"),
        ({"microbatch": 0}, "microbatch=0"),
        ({"microbatch": 5}, "a batch of 12 rows is not a multiple of the microbatch of 5"),
    ],
)
def test_what_cannot_be_private_is_an_error(knobs, message):
    with pytest.raises(UserError, match=message):
        estimate(**knobs)


def test_a_loss_of_the_whole_batch_is_refused():
    def contrast(params, ctx):
        mean = not_additive(Mean(jnp.var(ctx.batch["image"] @ params["w"]), jnp.float32(1)))
        return mean.value(), Out({}, {"loss": mean})

    with pytest.raises(UserError, match="private splits the batch"):
        estimate(loss=contrast)
