"""Rounds of federated training, against a loop over clients in numpy and optax, closed forms, and plain training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import (
    Ctx,
    Mean,
    Model,
    NotAdditive,
    Out,
    State,
    draw,
    gradient,
    not_additive,
    train_step,
    weighted_mean,
)
from research.distributed.sharding import make_mesh, place
from research.errors import UserError
from research.fields import example_weights
from research.gradients.accumulate import accumulate
from research.gradients.federated import federated, plain_mean
from research.gradients.private import private
from research.gradients.secure import secure
from research.objectives.adversarial import adversarial
from research.objectives.classify import classify

RNG = np.random.default_rng(0)
CLIENTS, STEPS, B, D, C = 4, 3, 5, 6, 3
X = RNG.normal(size=(CLIENTS, STEPS, B, D)).astype(np.float32)
Y = RNG.integers(C, size=(CLIENTS, STEPS, B)).astype(np.int32)
# Client 0 is whole, client 1 ragged with a last step of padding, client 2 is empty, client 3 pads its middle step.
MASK = np.ones((CLIENTS, STEPS, B), np.float32)
MASK[0, 2, 3:] = MASK[1, 1, 2:] = MASK[1, 2] = MASK[2] = MASK[3, 1] = 0
# A batch that is all padding may hold anything. (Within one, a model's matrices multiply 0 by nan.)
BATCH = {"image": np.where(MASK.any(-1)[..., None, None], X, np.nan), "label": Y, "mask": MASK}
WEIGHTS = MASK.sum((1, 2))
PARAMS = {"w": RNG.normal(size=(D, C)).astype(np.float32), "b": RNG.normal(size=C).astype(np.float32)}


def linear(params, stats, x, *, key=None, train=False):
    return x @ params["w"] + params["b"], {}


def ctx_of(batch, *, stats=None, key=0):
    return Ctx(batch, stats or {}, jax.random.key(key), jnp.int32(0))


def close(a, b, **tolerance):
    tolerance = {"rtol": 1e-5, "atol": 1e-6, "equal_nan": False, **tolerance}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


LOSS = classify(linear)
SGD = optax.sgd(0.5)


def one_step(x):
    return {name: value.reshape(value.shape[0] * value.shape[1], 1, *value.shape[2:]) for name, value in x.items()}


def slope(params, x, y):
    """The gradient of the mean cross-entropy of a linear classifier, in numpy."""
    odds = np.exp(x @ params["w"] + params["b"])
    error = (odds / odds.sum(-1, keepdims=True) - np.eye(C)[y]) / len(y)
    return {"w": x.T @ error, "b": error.sum(0)}


def by_hand(batch, optimizer, *, params=PARAMS, proximal=0.0):
    """Each client alone, step by step, on its real examples only: [(its params at the end, its examples)]."""
    ends, update = [], jax.jit(optimizer.update)
    for k in range(len(batch["label"])):
        mine, opt, seen = params, jax.device_get(optimizer.init(params)), 0
        for j in range(len(batch["label"][k])):
            rows = batch["mask"][k, j] > 0
            if not rows.any():
                continue
            grads = slope(mine, batch["image"][k, j][rows], batch["label"][k, j][rows])
            grads = {name: np.float32(grads[name] + proximal * (mine[name] - params[name])) for name in params}
            updates, opt = jax.device_get(update(grads, opt, mine))
            mine, seen = jax.tree.map(np.add, mine, updates), seen + rows.sum()
        ends.append((mine, seen))
    return ends


def pseudo(ends, params=PARAMS):
    """params - the mean of the clients' params by their examples, in f64."""
    total = sum(seen for _, seen in ends)
    ends = [(jax.tree.map(lambda x: np.asarray(x, np.float64), tree), seen) for tree, seen in ends]
    mean = {name: sum(tree[name] * seen for tree, seen in ends) / total for name in params}
    return {name: np.asarray(params[name], np.float64) - mean[name] for name in params}


def test_one_local_step_of_sgd_is_the_gradient_of_the_whole_ragged_batch():
    split = one_step(BATCH)
    flat = {name: x.reshape(-1, *x.shape[3:]) for name, x in {**BATCH, "image": X}.items()}
    expected, out = jax.jit(gradient(LOSS))(PARAMS, ctx_of(flat))
    apart = place(split, make_mesh({"data": -1}))  # three clients a device

    def four(updates, weights, key):
        assert len(weights) == 4
        return plain_mean(updates, weights, key)

    grouped = {"at_once": 4, "aggregate": four}
    for batch, knobs in ((split, {}), (apart, grouped), (split, {"at_once": 3, "proximal": 2.0})):
        found, seen = jax.jit(federated(gradient(LOSS), optax.sgd(1.0), **knobs))(PARAMS, ctx_of(batch))
        close(found, expected)
        close(seen.metrics, out.metrics)


def test_a_round_is_every_client_trained_alone_and_averaged_by_its_examples():
    for optimizer, proximal in ((SGD, 0.0), (optax.chain(optax.clip(0.1), optax.adam(0.1)), 0.3)):
        found, out = jax.jit(federated(gradient(LOSS), optimizer, proximal=proximal))(PARAMS, ctx_of(BATCH))
        ends = by_hand(BATCH, optimizer, proximal=proximal)
        assert [seen for _, seen in ends] == WEIGHTS.tolist() and len(set(WEIGHTS)) == 4 and WEIGHTS[2] == 0
        close(found, pseudo(ends))
        assert out.metrics["loss"].weight == WEIGHTS.sum() and np.isfinite(out.metrics["loss"].sum)
    groups, seen = jax.jit(federated(gradient(LOSS), optimizer, proximal=proximal, at_once=2))(PARAMS, ctx_of(BATCH))
    close(groups, found)
    close(seen.metrics, out.metrics)


def test_an_empty_client_and_an_empty_round_change_nothing_whatever_their_data_hold():
    # A loss, stats and a metric that forget the mask: only the weight of the step can hide what padding holds.
    def loss(params, ctx):
        mean = weighted_mean(
            jnp.sum(params["w"] * ctx.batch["x"], (1, 2)), example_weights(ctx.batch, len(ctx.batch["x"]))
        )
        middle = jnp.mean(ctx.batch["x"])
        metrics = {"loss": mean, "middle": Mean(middle, jnp.float32(1))}
        return mean.value() + jnp.sum(params["w"]) * middle, Out({"seen": middle}, metrics)

    x = RNG.normal(size=(2, 2, 3, D, C)).astype(np.float32)
    mask = np.ones((2, 2, 3), np.float32)
    grad_fn = jax.jit(federated(gradient(loss), optax.sgd(1.0)))
    stats = {"seen": np.float32(0.5)}
    both = grad_fn(PARAMS, ctx_of({"x": x, "mask": mask}, stats=stats))
    mask[1], x[1] = 0, np.nan
    x[0, 1], mask[0, 1] = np.inf, 0
    found, out = grad_fn(PARAMS, ctx_of({"x": x, "mask": mask}, stats=stats))
    first = ctx_of({"x": x[0, 0], "mask": mask[0, 0]})
    close(found, jax.jit(jax.grad(lambda p: loss(p, first)[0]))(PARAMS))
    np.testing.assert_allclose([out.stats["seen"], *out.metrics["middle"]], [x[0, 0].mean()] * 2 + [1], rtol=1e-4)
    assert np.abs(np.asarray(both[0]["w"]) - found["w"]).max() > 1e-2
    found, out = grad_fn(PARAMS, ctx_of({"x": x * np.nan, "mask": mask * 0}, stats=stats))
    close(found, jax.tree.map(np.zeros_like, PARAMS), atol=0)
    assert out.stats["seen"] == 0.5 and out.metrics["loss"] == (0, 0)


def test_fedprox_on_a_quadratic_is_its_closed_form():
    def loss(params, ctx):  # 1/2 |w - x|^2
        mean = weighted_mean(0.5 * jnp.sum((params - ctx.batch["x"]) ** 2, -1), jnp.ones(len(ctx.batch["x"])))
        return mean.value(), Out({}, {"loss": mean})

    steps, rate, mu, w = 7, 0.2, 1.5, np.float32([1, -2])
    x = RNG.normal(size=(3, 2)).astype(np.float32)
    batch = {"x": np.broadcast_to(x[:, None, None], (3, steps, 1, 2))}
    found, _ = jax.jit(federated(gradient(loss), optax.sgd(rate), proximal=mu))(w, ctx_of(batch))
    # d <- d - rate * (w + d - x + mu * d) from 0: a geometric series towards (x - w) / (1 + mu), never x itself.
    expected = -((x - w) / (1 + mu) * (1 - (1 - rate * (1 + mu)) ** steps)).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_server_optimizer_is_the_experiments():
    """FedAdam: optax.adam on the pseudo-gradients of clients that we train by hand, over three rounds."""
    local, server = optax.sgd(0.3, momentum=0.9), optax.adam(0.05, b2=0.99)
    step = jax.jit(train_step(federated(gradient(LOSS), local), server))
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), PARAMS, {}, server.init(PARAMS))
    params, opt, update = PARAMS, server.init(PARAMS), jax.jit(server.update)
    for round in range(3):
        batch = {name: np.roll(x, round, axis=1) for name, x in BATCH.items()}
        state, _ = step(state, batch)
        grads = pseudo(by_hand(batch, local, params=params), params)
        updates, opt = jax.device_get(update(jax.tree.map(np.float32, grads), opt))
        params = jax.tree.map(np.add, params, updates)
    close(state.params, params, rtol=1e-4, atol=1e-5)


def counting(params, stats, x, *, key=None, train=False):
    """Batch statistics, a counter, a flag and a queue, as models and techniques keep them."""
    mean = 0.5 * stats["norm"]["mean"] + 0.5 * x.mean(0)
    norm = {"mean": mean, "count": stats["norm"]["count"] + 1, "flag": ~stats["norm"]["flag"]}
    changed = {"norm": norm, "queue": stats["queue"] + 1}
    return (x - stats["norm"]["mean"]) @ params["w"] + params["b"] + stats["other"], changed


def test_stats_move_by_the_mean_of_what_clients_changed():
    x = X[:, :2]
    mask = np.ones(x.shape[:3], np.float32)
    mask[1, 1] = mask[2] = 0
    weights = mask.sum((1, 2))
    start = np.arange(D, dtype=np.float32)
    norm = {"mean": start, "count": np.int32(7), "flag": np.bool_(True)}
    queue = np.zeros(2, np.float32)
    stats = {"norm": norm, "queue": queue, "other": np.float32(0.25), "best": np.float32(np.inf)}
    batch = {"image": x, "label": Y[:, :2], "mask": mask}
    model = Model(None, counting)
    grad_fn = jax.jit(federated(gradient(classify(model)), optax.sgd(1.0), keep=("queue",)))
    _, out = grad_fn(PARAMS, ctx_of(batch, stats=stats))
    assert set(out.stats) == {"norm"}  # what no client changed, and what is kept, is not given back
    means = [start] * CLIENTS
    for k in range(CLIENTS):
        for j in range(2):
            if mask[k, j].any():
                means[k] = 0.5 * means[k] + 0.5 * x[k, j].mean(0)
    np.testing.assert_allclose(out.stats["norm"]["mean"], np.average(means, axis=0, weights=weights), rtol=1e-5)
    # 2, 1, 0 and 2 steps by 10, 5, 0 and 10 examples: 1.8 on average
    assert out.stats["norm"]["count"] == 9 and out.stats["norm"]["count"].dtype == jnp.int32
    assert out.stats["norm"]["flag"]
    # A client sees its own statistics on the way: the second step of client 0 is not centred by the server's.
    mask[1:] = 0
    found, _ = grad_fn(PARAMS, ctx_of({**batch, "mask": mask}, stats=stats))
    first = slope({**PARAMS, "b": PARAMS["b"] + 0.25}, x[0, 0] - start, Y[0, 0])
    then = jax.tree.map(lambda p, g: p - g, {**PARAMS, "b": PARAMS["b"] + 0.25}, first)
    second = slope(then, x[0, 1] - (start + x[0, 0].mean(0)) / 2, Y[0, 1])
    close(found, jax.tree.map(np.add, first, second))


def test_randomness_differs_between_clients_steps_and_rounds_and_not_with_groups():
    def loss(params, ctx):
        noise = jax.random.normal(ctx.key, params["w"].shape)
        mean = weighted_mean(jnp.ones(len(ctx.batch["x"])), jnp.ones(len(ctx.batch["x"])))
        return jnp.sum(params["w"] * noise), Out({}, {"loss": mean, "draw": weighted_mean(noise[None], jnp.ones(1))})

    batch = {"x": np.ones((4, 2, 1), np.float32)}
    watched = []

    def keep_all(updates, weights, key):
        jax.debug.callback(lambda x: watched.append(np.asarray(x)), updates[0]["w"])
        return weighted_mean(updates, weights)

    grad_fn = jax.jit(federated(gradient(loss), optax.sgd(1.0), aggregate=keep_all))
    first, out = jax.device_get(grad_fn(PARAMS, ctx_of(batch)))
    other, _ = jax.device_get(grad_fn(PARAMS, ctx_of(batch, key=1)))
    jax.effects_barrier()
    by_client = watched[0]
    assert len({x.tobytes() for x in by_client}) == 4 and np.abs(first["w"] - other["w"]).max() > 0.1
    # Both steps of a client draw: the sum has twice the variance, and is none of the single draws doubled.
    drawn = lambda k, j: jax.random.normal(draw(jax.random.key(0), "client", k, "step", j), (D, C))
    both = jax.vmap(jax.vmap(drawn, (None, 0)), (0, None))
    noises = -np.asarray(jax.jit(both)(np.arange(4), np.arange(2))).sum(1)
    close(by_client, noises)
    close(out.metrics["draw"].sum, -np.sum(noises, 0))
    close(jax.jit(federated(gradient(loss), optax.sgd(1.0), at_once=2))(PARAMS, ctx_of(batch))[0], first)


def test_a_loss_that_does_not_add_over_examples_is_taken_client_by_client():
    def spread(params, ctx):
        x = ctx.batch["x"] * params
        value = jnp.var(x)
        mean = not_additive(weighted_mean(value[None], jnp.asarray([len(x)])))
        return mean.value(), Out({}, {"loss": mean})

    x = RNG.normal(size=(2, 1, 4)).astype(np.float32)
    found, out = jax.jit(federated(gradient(spread), optax.sgd(1.0)))(jnp.float32(2), ctx_of({"x": x}))
    np.testing.assert_allclose(found, 4 * x.var(-1).mean(), rtol=1e-5)
    # A round adds over its clients, so who splits it by clients may.
    assert not isinstance(out.metrics["loss"], NotAdditive) and out.metrics["loss"].weight == 8


def test_secure_aggregation_gives_the_same_round():
    found, _ = jax.jit(federated(gradient(LOSS), SGD, aggregate=secure(limit=4.0)))(PARAMS, ctx_of(BATCH))
    close(found, pseudo(by_hand(BATCH, SGD)))


def test_it_composes():
    attacked = adversarial(LOSS, epsilon=0.1, steps=2, bounds=(-9, 9), random_start=False)
    full = {"image": X[:, :1], "label": Y[:, :1]}
    expected, _ = jax.jit(gradient(attacked))(PARAMS, ctx_of({n: x.reshape(-1, *x.shape[3:]) for n, x in full.items()}))
    secret = private(attacked, clip=np.inf, noise=0.0, expected=B)
    found, _ = jax.jit(federated(secret, optax.sgd(1.0)))(PARAMS, ctx_of(full))
    close(found, expected)
    # A round may itself be split by clients, who weigh the same.
    parts = accumulate(federated(gradient(LOSS), SGD), 2)
    found, out = jax.jit(parts)(PARAMS, ctx_of(BATCH))
    close(found, pseudo(by_hand(BATCH, SGD)))
    assert out.metrics["loss"].weight == WEIGHTS.sum()


def test_small_steps_do_not_vanish_in_large_bf16_weights():
    params = {"w": jnp.full((2, 3), 256.0, jnp.bfloat16)}  # whose neighbours are 2 apart

    def loss(params, ctx):
        mean = weighted_mean(ctx.batch["x"], jnp.ones(len(ctx.batch["x"])))
        return jnp.sum(params["w"].astype(jnp.float32)), Out({}, {"loss": mean})

    batch = {"x": np.ones((2, 512, 1), np.float32)}
    found, _ = jax.jit(federated(gradient(loss), optax.sgd(2.0**-8)))(params, ctx_of(batch))
    # 512 steps; summed up in bf16 they would stop at 1, whose neighbour is 1 + 2^-7.
    assert found["w"].dtype == jnp.bfloat16 and np.all(found["w"] == 2)


def test_mistakes_are_named():
    make = lambda **knobs: federated(gradient(LOSS), optax.sgd(1.0), **knobs)
    for wrong in (3, 0, 8):
        with pytest.raises(UserError, match=f"at_once={wrong} does not divide the 4 clients"):
            make(at_once=wrong)(PARAMS, ctx_of(BATCH))
    with pytest.raises(UserError, match=r"\[clients, local_steps, B, ...\]; these begin with .*'mask': \(4,\)"):
        make()(PARAMS, ctx_of({**BATCH, "mask": np.ones(4)}))
    with pytest.raises(UserError, match="stats entry to keep 'queu'. Did you mean 'queue'"):
        make(keep=("queu",))(PARAMS, ctx_of(BATCH, stats={"queue": jnp.zeros(1)}))
    wrong = lambda params, stats, x, *, key=None, train=False: (linear(params, stats, x)[0], {"nrom": x[0]})
    with pytest.raises(UserError, match="unknown stats entry 'nrom'. Did you mean 'norm'"):
        federated(gradient(classify(wrong)), optax.sgd(1.0))(PARAMS, ctx_of(BATCH, stats={"norm": jnp.zeros(D)}))
