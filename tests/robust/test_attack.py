import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses
from research.core import Trained, merge
from research.data import arrays, eval_batches
from research.errors import UserError
from research.robust.attack import ascend, fgsm, margin, measure_robust, pgd
from research.robust.norms import l1, l2, linf

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, size=(7, 6)).astype(np.float32)
Y = RNG.integers(2, size=7)
W = RNG.normal(size=6).astype(np.float32)
NORMS = [linf, l2, l1]
DUAL = {id(linf): lambda w: np.abs(w).sum(), id(l2): np.linalg.norm, id(l1): lambda w: np.abs(w).max()}
SIZE = {
    id(linf): lambda d: np.abs(d).max(-1),
    id(l2): lambda d: np.linalg.norm(d, axis=-1),
    id(l1): lambda d: np.abs(d).sum(-1),
}


def logistic(x):
    """A linear classifier of two classes: log(1 + exp(-s w.x)), s = +-1."""
    return jax.nn.softplus(-(2 * Y - 1) * (x @ W))


def rugged(x):
    """A function with many local maxima."""
    return jnp.sum(jnp.sin(9 * x) + 0.3 * x, -1)


def wavy(x):
    """`rugged` in numpy."""
    return np.sum(np.sin(9 * x) + np.float32(0.3) * x, -1)


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2", "l1"])
def test_a_linear_classifier_is_attacked_as_well_as_can_be(norm):
    # The worst loss in a ball of radius e is that of the margin less e times the dual norm of w.
    worst = np.logaddexp(0, -(2 * Y - 1) * (X @ W) + 0.2 * DUAL[id(norm)](W))
    step, found = jax.jit(
        lambda key: (
            fgsm(logistic, X, epsilon=0.2, bounds=None, norm=norm),
            pgd(logistic, X, key=key, epsilon=0.2, steps=40, step_size=0.05, bounds=None, norm=norm),
        )
    )(jax.random.key(0))
    np.testing.assert_allclose(logistic(step), worst, rtol=1e-5)
    np.testing.assert_allclose(found.score, worst, rtol=1e-3)
    np.testing.assert_allclose(found.score, logistic(found.inputs), rtol=1e-6)
    away = -(2 * Y - 1)[:, None]
    direction = {
        id(linf): np.sign(W), id(l2): W / np.linalg.norm(W), id(l1): np.sign(W) * (np.abs(W) == np.abs(W).max()),
    }[id(norm)]  # fmt: skip
    np.testing.assert_allclose(step, X + 0.2 * away * direction, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2", "l1"])
def test_it_stays_in_the_ball_and_in_the_valid_range(norm):
    x = RNG.integers(0, 256, size=(5, 4, 3), dtype=np.uint8)
    x[0] = 255
    weights = RNG.normal(size=(4, 3)).astype(np.float32)
    raised = lambda z: jnp.sum(weights * jnp.sin(z), (1, 2))
    attack = jax.jit(
        lambda key, epsilon: ascend(
            raised, x, epsilon=epsilon, steps=4, bounds=(0, 255), norm=norm, step_size=50.0, key=key
        )
    )
    for key in (jax.random.key(0), jax.random.key(1)):
        found = np.asarray(attack(key, 30.0))
        assert found.dtype == jnp.float32 and found.min() >= 0 and found.max() <= 255
        distance = SIZE[id(norm)](found.astype(np.float64).reshape(5, -1) - x.reshape(5, -1))
        assert (distance <= 30 * (1 + 1e-5)).all() and (distance > 1).sum() >= 4
        np.testing.assert_array_equal(attack(key, 0.0), x)


def test_l1_fills_one_entry_after_the_other_up_to_the_bound():
    # From 0.5 an entry can move by 0.5 only, so a budget of 1.2 goes to the three largest weights.
    weights = np.array([4, -3, 2, 1], np.float32)
    start, rule = np.full((1, 4), 0.5, np.float32), dict(epsilon=1.2, steps=100, step_size=0.02, bounds=(0, 1), norm=l1)
    found = jax.jit(lambda: ascend(lambda x: x @ weights, start, **rule))()
    np.testing.assert_allclose(found, [[1.0, 0.0, 0.7, 0.5]], atol=0.06)


def test_more_steps_and_more_restarts_are_worse_for_every_example():
    run = jax.jit(
        lambda key: [
            pgd(rugged, X, key=key, epsilon=0.5, steps=5, bounds=(0, 1), restarts=restarts) for restarts in (1, 3, 9)
        ]
    )
    one, three, nine = jax.device_get(run(jax.random.key(0)))
    clean = wavy(X)
    assert (one.score >= clean).all() and (three.score >= one.score).all() and (nine.score >= three.score).all()
    assert (nine.score > one.score + 0.05).any()
    np.testing.assert_allclose(nine.score, wavy(nine.inputs), rtol=1e-5)
    assert (run(jax.random.key(1))[0].inputs != one.inputs).any()
    # Every row has a start of its own, which does not depend on how many rows there are.
    same = lambda rows: ascend(
        lambda x: 0 * x, X[:1].repeat(rows, 0), epsilon=0.1, steps=1, bounds=None, key=jax.random.key(3)
    )
    starts, fewer = jax.device_get(jax.jit(lambda: (same(4), same(2)))())
    assert len(np.unique(np.asarray(starts[:, 0]))) == 4
    np.testing.assert_array_equal(starts[:2], fewer)


def test_the_score_chooses_among_restarts():
    low, high = jax.device_get(
        jax.jit(
            lambda key: [
                pgd(rugged, X, key=key, epsilon=0.5, steps=3, bounds=(0, 1), restarts=6, score=score)
                for score in (lambda x: -rugged(x), None)
            ]
        )(jax.random.key(0))
    )
    np.testing.assert_allclose(low.score, -wavy(low.inputs), rtol=1e-5)
    assert (wavy(low.inputs) <= high.score).all()
    # x itself is among the candidates.
    assert (low.score >= -wavy(X)).all()


def network(params, stats, x, *, key=None, train=False):
    assert not train
    return jnp.tanh(x @ params["a"]) @ params["b"], {}


PARAMS = {"a": RNG.normal(size=(6, 8)).astype(np.float32), "b": RNG.normal(size=(8, 3)).astype(np.float32)}
TRAINED = Trained(network, PARAMS, {})


def test_robust_accuracy_over_padded_batches():
    x = RNG.uniform(size=(41, 6)).astype(np.float32)
    best = (np.tanh(x @ PARAMS["a"]) @ PARAMS["b"]).argmax(-1)
    y = best.astype(np.int32)
    y[::5] = (y[::5] + 1) % 3

    @jax.jit
    def step(batch, epsilon):
        return measure_robust(epsilon=epsilon, steps=8, bounds=(0, 1), restarts=3)(TRAINED, batch)

    def evaluate(size, epsilon=0.15):
        source = eval_batches(arrays(image=x, label=y), size)
        parts = [jax.device_get(step(source(i), epsilon)) for i in range(len(source))]
        totals = {name: [part[name] for part in parts] for name in ("accuracy", "robust_accuracy")}
        values = {name: float(functools.reduce(merge, means).value()) for name, means in totals.items()}
        return values, [part["rows"] for part in parts]

    values, rows = evaluate(41)
    clean = best == y
    assert values["accuracy"] == pytest.approx(clean.mean())
    attacked = np.asarray(rows[0].values["attacked_prediction"])
    assert values["robust_accuracy"] == pytest.approx((attacked == y).mean())
    assert ((attacked == y) <= clean).all() and 0.1 < values["robust_accuracy"] < values["accuracy"] - 0.05
    # Starts go by row, so another batch size draws others, and padding counts in neither.
    ragged, _ = evaluate(16)
    assert ragged["accuracy"] == pytest.approx(clean.mean())
    assert abs(ragged["robust_accuracy"] - values["robust_accuracy"]) < 0.1
    assert evaluate(41, epsilon=0.0)[0]["robust_accuracy"] == pytest.approx(clean.mean())


def test_pgd_is_stronger_than_fgsm_on_a_network():
    objective = lambda z: losses.cross_entropy(network(PARAMS, {}, z)[0], jnp.asarray(Y))
    one, many = jax.jit(
        lambda key: (
            objective(fgsm(objective, X, epsilon=0.3, bounds=(0, 1))),
            pgd(objective, X, key=key, epsilon=0.3, steps=20, bounds=(0, 1), restarts=4).score,
        )
    )(jax.random.key(0))
    assert (many >= one - 1e-4).all() and many.mean() > one.mean() + 0.01


def test_margin_is_above_0_for_errors_only():
    logits = RNG.normal(size=(50, 4)).astype(np.float32)
    labels = RNG.integers(4, size=50)
    logits[0], labels[0] = [3, 1, 7, 0], 0
    found = np.asarray(jax.jit(margin)(logits, labels))
    np.testing.assert_array_equal(found > 0, logits.argmax(-1) != labels)
    np.testing.assert_allclose(found[0], 4)


def test_no_gradient_passes_through_an_attack():
    # The direction of steepest ascent, and so what is found, depends on w and on x.
    found = lambda w, x: ascend(lambda z: jnp.sum(w * z**2, -1), x, epsilon=0.1, steps=2, bounds=None, norm=l2)
    slopes = jax.grad(lambda w, x: found(w, x)[:, 0].sum(), argnums=(0, 1))
    slopes, one, other = jax.device_get(jax.jit(lambda w, x: (slopes(w, x), found(w, x), found(1 + w, x)))(W, X))
    assert (slopes[0] == 0).all() and (slopes[1] == 0).all()
    assert (one != other).any()


def test_mistakes_are_errors():
    with pytest.raises(UserError, match="an attack of 0 steps"):
        ascend(rugged, X, epsilon=0.1, steps=0, bounds=(0, 1))
    with pytest.raises(UserError, match=r"the bounds \(1, 0\)"):
        ascend(rugged, X, epsilon=0.1, steps=1, bounds=(1, 0))
    with pytest.raises(UserError, match="unknown batch field 'image'"):
        measure_robust(epsilon=0.1, steps=1, bounds=(0, 1))(TRAINED, {"x": X})
