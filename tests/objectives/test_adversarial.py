import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, Out, draw, weighted_mean
from research.errors import UserError
from research.objectives.adversarial import adversarial
from research.objectives.classify import classify
from research.robust.norms import l1, l2, linf

RNG = np.random.default_rng(0)
X = RNG.uniform(1, 9, size=(6, 4)).astype(np.float32)
Y = RNG.integers(2, size=6)
W = RNG.normal(size=(4, 2)).astype(np.float32)
GAP = W[:, 1] - W[:, 0]
BATCH = {"image": X, "label": Y}
NORMS = {"linf": (linf, np.abs(GAP).sum()), "l2": (l2, np.linalg.norm(GAP)), "l1": (l1, np.abs(GAP).max())}


def linear(params, stats, x, *, key=None, train=False):
    assert train
    return x.astype(jnp.float32) @ params, {"seen": stats["seen"] + 1}


def noisy(params, stats, x, *, key=None, train=False):
    """A network with dropout whose stats are a sum over what it saw."""
    kept = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.sin(x * kept) @ params, {"seen": stats["seen"] + x.sum()}


def context(batch=BATCH, key=0):
    return Ctx(batch, {"seen": jnp.float32(4)}, jax.random.key(key), jnp.int32(0))


def close(a, b, rtol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), a, b)


@pytest.mark.parametrize("name", NORMS)
def test_the_loss_of_a_linear_classifier_is_the_closed_form(name):
    # The margin of every example shrinks by epsilon times the dual norm of the weights' difference.
    norm, dual = NORMS[name]
    within = dict(epsilon=0.2, bounds=None, norm=norm)
    worst = np.logaddexp(0, -(2 * Y - 1) * (X @ GAP) + 0.2 * dual)
    fgsm, pgd = jax.jit(
        lambda ctx: [
            adversarial(classify(linear), steps=1, step_size=0.2, random_start=False, **within)(W, ctx),
            adversarial(classify(linear), steps=30, step_size=0.05, **within)(W, ctx),
        ]
    )(context())
    np.testing.assert_allclose(fgsm[0], worst.mean(), rtol=1e-5)
    np.testing.assert_allclose(pgd[0], worst.mean(), rtol=2e-3)
    assert fgsm[1].stats == {"seen": 5} and fgsm[1].metrics["loss"].weight == 6


def test_its_gradient_takes_the_inputs_that_were_found_as_given():
    loss = adversarial(classify(linear), epsilon=0.2, steps=1, step_size=0.2, bounds=None, norm=l2, random_start=False)
    moved = X - 0.2 * (2 * Y - 1)[:, None] * GAP / np.linalg.norm(GAP)
    slope = lambda loss, ctx: jax.grad(lambda w: loss(w, ctx)[0])(W)
    given = context({**BATCH, "image": moved})
    close(*jax.jit(lambda: (slope(loss, context()), slope(classify(linear), given)))(), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_with_epsilon_0_it_is_the_loss(dtype):
    ctx = context({**BATCH, "image": X.astype(dtype)})
    plain, found = jax.jit(
        lambda ctx: [
            jax.value_and_grad(loss, has_aux=True)(W, ctx)
            for loss in (classify(noisy), adversarial(classify(noisy), epsilon=0.0, steps=2, bounds=(0, 9)))
        ]
    )(ctx)
    # Bit for bit, dropout and stats included: what the attack did to the stats is dropped.
    jax.tree.map(np.testing.assert_array_equal, plain, found)


def spied(**arguments):
    """(what the final call of the loss sees, the clean loss, the raised one): a compiled function of (ctx)."""

    def loss(params, ctx):
        logits, _ = noisy(params, ctx.stats, ctx.batch["image"], key=draw(ctx.key, "model"))
        mean = weighted_mean(-logits[:, 0], ctx.batch.get("mask", jnp.ones(len(logits))))
        return mean.value(), Out({}, {"loss": mean, "inputs": ctx.batch["image"], "key": jax.random.key_data(ctx.key)})

    attack = dict(epsilon=0.3, steps=3, step_size=0.1, bounds=(0, 9))
    made = adversarial(loss, **{**attack, **arguments})

    @jax.jit
    def look(ctx):
        value, out = made(W, ctx)
        return out.metrics, loss(W, ctx)[0], value

    return lambda ctx: jax.device_get(look(ctx))


def test_the_start_moves_with_the_key_and_the_loss_rises():
    look = spied()
    (one, clean, raised), (other, _, _) = look(context()), look(context(key=1))
    assert (one["inputs"] != other["inputs"]).any() and np.abs(one["inputs"] - X).max() <= 0.3 + 1e-6
    assert raised > clean + 0.05
    np.testing.assert_array_equal(one["key"], jax.random.key_data(jax.random.key(0)))
    # Entries that dropout hides have no gradient: they stay where they started. Had the attack another mask than the
    # loss, they would have moved.
    begin = spied(steps=1, step_size=0.0)
    start, another = begin(context())[0]["inputs"], begin(context(key=1))[0]["inputs"]
    assert (np.abs(start - another) > 1e-3).mean() > 0.9
    hidden = ~np.asarray(jax.random.bernoulli(draw(jax.random.key(0), "model"), 0.5, X.shape))
    np.testing.assert_allclose(one["inputs"][hidden], start[hidden], atol=1e-5)
    assert (np.abs(one["inputs"] - start)[~hidden] > 1e-3).mean() > 0.7
    assert (np.abs(start - X) > 1e-3).any()


def test_an_example_meets_the_attack_that_it_would_meet_alone():
    look = spied(norm=l2, random_start=False)
    mask = np.array([1, 1, 1, 0, 1, 1], np.float32)
    whole, _, _ = look(context({**BATCH, "mask": mask}))
    heavy, _, _ = look(context({**BATCH, "mask": 5 * mask}))
    plain, _, _ = look(context())
    np.testing.assert_allclose(whole["inputs"][mask > 0], plain["inputs"][mask > 0], rtol=1e-5)
    np.testing.assert_allclose(heavy["inputs"], whole["inputs"], rtol=1e-5)
    np.testing.assert_array_equal(whole["inputs"][3], X[3])


def test_one_example_at_a_time_under_vmap():
    # As private() calls it: batches of one, and a key for each.
    loss = adversarial(classify(linear), epsilon=0.2, steps=2, step_size=0.2, bounds=None, random_start=False)

    def alone(x, y):
        return jax.grad(lambda w: loss(w, context({"image": x[None], "label": y[None]}))[0])(W)

    each, whole = jax.jit(lambda: (jax.vmap(alone)(X, Y).mean(0), jax.grad(lambda w: loss(w, context())[0])(W)))()
    close(each, whole, rtol=1e-5)


def test_a_missing_field_is_an_error():
    loss = adversarial(classify(linear), epsilon=0.2, steps=2, bounds=None, inputs="picture")
    with pytest.raises(UserError, match="unknown batch field 'picture'"):
        loss(W, context())
