"""Distillation against the formula in numpy, in its limits, with a teacher of its own and with an average of itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, softmax

from research.core import Ctx, Model, State, draw
from research.data import arrays, batches
from research.errors import UserError
from research.experiment import Experiment, build
from research.objectives.classify import classify
from research.objectives.distil import distil, hinted, logits_of
from research.objectives.teacher import teacher_outputs, with_teacher
from research.optim.ema import ema
from research.runs.pretrained import pretrained

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype(np.float32)
Y = RNG.integers(3, size=6)
W, V = (RNG.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
BATCH = {"image": X, "label": Y}
STATS = {"seen": np.int32(4), "teacher": {"params": V}}


def linear(params, stats, x, *, key=None, train=False):
    """A teacher that is called as in training, or with a key, shows it."""
    return x @ params, {"seen": stats["seen"] + 1} if train else {}


def kept(state):
    return state.stats["teacher"]["params"], {}


def run(loss, batch=BATCH, *, params=W, stats=STATS, key=0):
    ctx = Ctx(batch, stats, jax.random.key(key), np.int32(0))
    (value, out), grads = jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(params, ctx))
    return value, out, grads


def by_hand(w, v, *, temperature, x=X):
    """The mean KL and its gradient with respect to w, in f64."""
    p, log_q = softmax(x @ v / temperature, -1), log_softmax(x @ w / temperature, -1)
    divergence = np.sum(p * (np.log(p) - log_q), -1)
    return divergence.mean(), x.T @ (np.exp(log_q) - p) / temperature / len(x)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 0.7)])
def test_it_is_hintons_formula(temperature, weight):
    value, out, grads = run(distil(linear, linear, view=kept, temperature=temperature, weight=weight))
    labels, _, of_labels = run(classify(linear))
    w, v = np.asarray(W, np.float64), np.asarray(V, np.float64)
    soft, of_soft = by_hand(w, v, temperature=temperature)
    np.testing.assert_allclose(value, (1 - weight) * labels + weight * temperature**2 * soft, rtol=1e-5)
    expected = (1 - weight) * of_labels + weight * temperature**2 * of_soft
    np.testing.assert_allclose(grads, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, out.metrics["loss"].value(), rtol=1e-6)
    assert out.stats == {"seen": 5}
    np.testing.assert_allclose(out.metrics["distillation"].value(), soft, rtol=1e-5)
    assert out.metrics["agreement"].value() == np.float32(np.mean((X @ V).argmax(-1) == (X @ W).argmax(-1)))
    assert ("accuracy" in out.metrics) == (weight < 1)


def test_a_high_temperature_matches_logits():
    """Section 2.1: the gradient goes to 1 / C of that of half the squared distance of the centred logits."""
    _, _, grads = run(distil(linear, linear, view=kept, temperature=300.0, weight=1.0))
    z, v = (np.asarray(X @ a, np.float64) for a in (W, V))
    far = (z - z.mean(-1, keepdims=True)) - (v - v.mean(-1, keepdims=True))
    np.testing.assert_allclose(grads, X.T @ far / 3 / len(X), rtol=0.05, atol=0.02)


def test_without_weight_it_is_classify_and_without_labels_it_needs_none():
    for smoothing in (0.0, 0.1):
        value, _, grads = run(distil(linear, linear, view=kept, weight=0.0, smoothing=smoothing))
        expected, _, of_labels = run(classify(linear, smoothing=smoothing))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(grads, of_labels, rtol=1e-5, atol=1e-7)
    run(distil(linear, linear, view=kept, weight=1.0), {"image": X})


def test_a_teacher_that_is_the_student_teaches_nothing_and_gets_no_gradient():
    live = lambda state: (state.params, {"seen": jnp.int32(0)})
    value, _, grads = run(distil(linear, linear, view=live, weight=1.0))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(grads, 0, atol=1e-6)
    # Were the teacher twice the student and not held, the gradient would flow through it as well.
    double = lambda state: (2 * state.params, {})
    _, _, grads = run(distil(linear, linear, view=double, weight=1.0, temperature=1.0))
    w = np.asarray(W, np.float64)
    np.testing.assert_allclose(grads, by_hand(w, 2 * w, temperature=1.0)[1], rtol=1e-4, atol=1e-6)


def test_padding_counts_in_nothing():
    mask = np.array([1, 1, 1, 1, 0, 0])
    padded = {"image": np.where(mask[:, None], X, 1e3), "label": Y, "mask": mask}
    loss = distil(linear, linear, view=kept)
    for found, expected in zip(run(loss, padded), run(loss, {"image": X[:4], "label": Y[:4]}), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_teacher_and_student_see_the_same_augmented_inputs_and_new_ones_for_a_new_key():
    calls = []

    def noisy(key, batch):
        return {**batch, "image": batch["image"] + jax.random.normal(key, batch["image"].shape)}

    @jax.jit
    def inputs(key):
        seen = []

        def watching(params, stats, x, *, key=None, train=False):
            seen.append(x)
            calls.append((train, key is not None))
            return linear(params, stats, x)

        distil(watching, watching, view=kept, augment=noisy)(W, Ctx(BATCH, STATS, key, jnp.int32(0)))
        return *seen, noisy(draw(key, "augment"), BATCH)["image"]

    (first, again, expected), (other, *_) = (inputs(jax.random.key(key)) for key in (0, 1))
    np.testing.assert_array_equal(first, again)
    assert calls == [(True, True), (False, False)]  # the student's and the teacher's
    assert not np.allclose(first, X) and not np.allclose(first, other)
    np.testing.assert_array_equal(first, expected)


def deep(params, stats, x, *, key=None, train=False):
    features = jnp.tanh(x @ params["in"])
    return (features @ params["out"], features), {}


def weights_of(size):
    rng = np.random.default_rng(size)
    return {"in": jnp.float32(rng.normal(size=(4, size))), "out": jnp.float32(rng.normal(size=(size, 3)))}


def test_hints_add_half_the_squared_distance_of_the_regressed_features():
    small, large = (Model(lambda key, size=size: (weights_of(size), {}), deep) for size in (2, 5))
    student = hinted(small, sizes=(2, 5))
    params, stats = student.init(jax.random.key(0))
    theirs, _ = large.init(jax.random.key(1))
    options = dict(view=lambda state: (theirs, {}), weight=0.0)
    value, out, grads = run(distil(student, large, hints=0.3, **options), params=params, stats=stats)
    kernel = np.asarray(params["regressor"]["kernel"])
    mine, far = np.tanh(X @ params["model"]["in"]), np.tanh(X @ theirs["in"])
    expected = np.mean(np.sum((mine @ kernel - far) ** 2, -1)) / 2
    np.testing.assert_allclose(out.metrics["hints"].value(), expected, rtol=1e-5)
    plain, _, _ = run(classify(logits_of(student)), params=params, stats=stats)
    np.testing.assert_allclose(value, plain + 0.3 * expected, rtol=1e-5)
    np.testing.assert_allclose(grads["regressor"]["kernel"], 0.3 * mine.T @ (mine @ kernel - far) / 6, rtol=1e-4)
    with pytest.raises(UserError, match=r"student's features have the shape \[6, 2\], the teacher's \[6, 5\]"):
        run(distil(deep, large, hints=0.3, **options), params=params["model"], stats=stats)


def small_run(model, loss, **more):
    source = batches(arrays(image=X, label=Y), 4)
    built = build(
        Experiment(init=model.init, apply=model.apply, loss=loss, optimizer=optax.sgd(0.5), source=source, steps=9,
                   **more),
        devices=jax.devices()[:1],
    )  # fmt: skip
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    first = jax.tree.map(np.asarray, (state.params, state.stats))
    for step in range(5):
        state, sums = built.step(state, sums, batch_at(step))
    return first, state, sums


def test_a_taught_model_keeps_a_runs_weights_beside_it_unchanged_and_learns_from_them(monkeypatch):
    student = Model(lambda key: (jnp.zeros((4, 3)), {"seen": jnp.int32(0)}), linear)
    noisy = lambda key: ({"w": jax.random.normal(key, (4, 3))}, {"norm": {"mean": jnp.zeros(4)}})
    teacher = Model(noisy, lambda params, stats, x, **_: ((x - stats["norm"]["mean"]) @ params["w"], {}))
    model, view = with_teacher(student, teacher)
    names = {r"stats/teacher/params/(.*)": r"\1", r"stats/teacher/stats/(.*)": r"stats/\1"}
    mean = np.full(4, 0.1, np.float32)
    monkeypatch.setattr(
        "research.runs.pretrained.read_arrays", lambda run: ({"w": np.asarray(3 * V)}, {"norm": {"mean": mean}})
    )
    loss = distil(model, teacher, view=view, weight=1.0)
    (_, stats), state, _ = small_run(model, loss, init_from=pretrained("RUN", names, tell=lambda text: None))
    np.testing.assert_array_equal(stats["teacher"]["params"]["w"], 3 * V)
    np.testing.assert_array_equal(stats["teacher"]["stats"]["norm"]["mean"], mean)
    jax.tree.map(np.testing.assert_array_equal, stats["teacher"], state.stats["teacher"])
    assert int(state.stats["seen"]) == 5
    # By hand from zero, under an offset that the student must make up for by its weights.
    w, batch_at = np.zeros((4, 3)), batches(arrays(image=X, label=Y), 4)(0)
    for step in range(5):
        x = batch_at(step)["image"].astype(np.float64)
        p, q = softmax((x - 0.1) @ (3 * np.asarray(V)) / 4, -1), softmax(x @ w / 4, -1)
        w = w - 0.5 * 16 * x.T @ (q - p) / 4 / 4
    np.testing.assert_allclose(state.params, w, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="already has a stats entry 'seen'"):
        with_teacher(student, teacher, name="seen").model.init(jax.random.key(0))


def test_an_average_of_the_student_can_teach_it():
    student = Model(lambda key: (W, {"seen": jnp.int32(0)}), linear)
    average = ema(0.5)
    loss = distil(student, student, view=average.view, weight=0.5)
    _, state, _ = small_run(student, loss, techniques=(average,))
    # The same by hand; the teacher starts as the student.
    w = mean = np.asarray(W, np.float64)
    batch_at = batches(arrays(image=X, label=Y), 4)(0)
    for step in range(5):
        x, y = (batch_at(step)[name] for name in ("image", "label"))
        of_labels = x.T @ (softmax(x @ w, -1) - np.eye(3)[y]) / 4
        w = w - 0.5 * (0.5 * of_labels + 0.5 * 16 * by_hand(w, mean, temperature=4.0, x=x)[1])
        rate = min(0.5, (1 + step) / (10 + step))
        mean = rate * mean + (1 - rate) * w
    np.testing.assert_allclose(state.params, w, rtol=1e-4)
    np.testing.assert_allclose(state.stats["ema"], mean, rtol=1e-4)
    assert not np.allclose(mean, w, rtol=1e-2)


def test_a_view_sees_params_stats_and_step_and_targets_carry_no_gradient():
    def view(state: State):
        assert state.opt is None and state.step == 7
        return state.params + state.stats["offset"], {}

    ctx = Ctx({}, {"offset": jnp.ones((4, 3))}, jax.random.key(0), 7)
    found, back = jax.vjp(lambda params: teacher_outputs(linear, view, params, ctx, X), W)
    np.testing.assert_allclose(found, X @ (W + 1), rtol=1e-5)
    np.testing.assert_array_equal(back(found)[0], 0)


def test_what_cannot_be_is_an_error():
    for wrong in ({"temperature": 0.0}, {"weight": 1.5}):
        with pytest.raises(UserError, match="temperature > 0 and weight in 0..1"):
            distil(linear, linear, view=kept, **wrong)
    narrow = lambda state: (V[:, :2], {})
    with pytest.raises(UserError, match=r"student's logits have the shape \[6, 3\], the teacher's \[6, 2\]"):
        run(distil(linear, linear, view=narrow))
