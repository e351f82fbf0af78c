import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from research.core import Mean, Out, draw, gradient
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.gradients.averaged import averaged
from research.gradients.compressed import ef_sign, error_feedback, int8, sign, top_k
from tests.gradients.toy import KEY, PARAMS, apart, ctx

RNG = np.random.default_rng(1)
GRADS = [{"a": RNG.normal(size=(4, 5)), "b": RNG.normal(size=7)} for _ in range(6)]
GRADS = jax.tree.map(lambda x: x.astype(np.float32), GRADS)
LIKE = jax.tree.map(np.zeros_like, GRADS[0])


def given(params, ctx):
    """The gradient is what the batch says; a loss of weight `ctx.batch["weight"]`."""
    weight = jnp.asarray(ctx.batch.get("weight", 1), jnp.float32)
    return ctx.batch["grads"], Out({}, {"loss": Mean(jnp.float32(0), weight)})


def send(made, steps=GRADS, **more):
    """What is sent at every step, and the memory after it."""
    memory, found = {made.name: made.memory(KEY, LIKE)}, []
    run = jax.jit(lambda memory, grads: made.grad_fn(LIKE, ctx({"grads": grads, **more}, **memory)))
    for grads in steps:
        sent, out = run(memory, grads)
        memory = {**memory, **out.stats}
        found.append((sent, memory["unsent"]))
    return found


def largest(x, count):
    kept = np.zeros_like(x)
    places = np.argsort(-abs(x).ravel())[:count]
    kept.ravel()[places] = x.ravel()[places]
    return kept


def mean_sign(x):
    return np.abs(x).mean() * np.sign(x)


@pytest.mark.parametrize("made, rule", [
    (top_k(given, fraction=0.25), {"a": lambda x: largest(x, 5), "b": lambda x: largest(x, 2)}),
    (top_k(given, fraction=0.01), {"a": lambda x: largest(x, 1), "b": lambda x: largest(x, 1)}),
    (ef_sign(given), {"a": mean_sign, "b": mean_sign}),
])  # fmt: skip
def test_error_feedback_is_the_recursion_in_numpy_and_loses_nothing(made, rule):
    error = {name: np.zeros_like(x) for name, x in LIKE.items()}
    total = {name: np.zeros_like(x) for name, x in LIKE.items()}
    for (sent, memory), grads in zip(send(made), GRADS, strict=True):
        for name, compress in rule.items():
            wanted = grads[name] + error[name]
            expected = compress(wanted)
            np.testing.assert_allclose(sent[name], expected, rtol=1e-5)
            error[name] = wanted - expected
            np.testing.assert_allclose(memory[name], error[name], rtol=1e-4, atol=1e-6)
            total[name] += sent[name]
    everything = jax.tree.map(lambda *x: sum(x), *GRADS)
    jax.tree.map(lambda t, m, s: np.testing.assert_allclose(t + m, s, atol=1e-5), total, memory, everything)


def test_sign_without_memory():
    found, out = jax.jit(sign(given))(LIKE, ctx({"grads": GRADS[0]}))
    jax.tree.map(lambda a, g: np.testing.assert_allclose(a, mean_sign(g), rtol=1e-6), found, GRADS[0])
    assert out.stats == {}


def test_int8_is_unbiased_within_a_level_and_on_255_levels():
    run = jax.jit(jax.vmap(lambda key: int8(given)(LIKE, ctx({"grads": GRADS[0]}, key=key))[0]))
    found, count = jax.device_get(run(draw(0, jnp.arange(4000)))), 4000
    for name, grads in GRADS[0].items():
        level = np.abs(grads).max() / 127
        steps = np.asarray(found[name]) / level
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        assert np.abs(steps).max() < 127.001
        assert np.abs(found[name] - grads).max() < level * 1.001
        # Six standard errors of a coin's mean; rounding to nearest is off by up to half a level, 60 times as much.
        np.testing.assert_allclose(found[name].mean(0), grads, atol=6 * level * 0.5 / np.sqrt(count))
    same = [found["a"][:, 0, 0] - GRADS[0]["a"][0, 0], found["b"][:, 0] - GRADS[0]["b"][0]]
    assert abs(np.corrcoef(*same)[0, 1]) < 0.1 and np.std(same[0]) > 0  # arrays and keys draw their own


def test_arrays_of_zeros_stay_zero_and_what_is_not_finite_is_not_hidden():
    zeros = jax.tree.map(np.zeros_like, GRADS[0])
    broken = {"a": np.where(np.arange(5) == 3, np.nan, GRADS[0]["a"]), "b": np.where(np.arange(7), 1, np.inf)}
    broken = jax.tree.map(np.float32, broken)
    for made in (int8, sign, lambda f: top_k(f, fraction=0.1).grad_fn, lambda f: ef_sign(f).grad_fn):
        run = jax.jit(lambda grads, made=made: made(given)(LIKE, ctx({"grads": grads}, unsent=zeros))[0])
        assert apart(run(zeros), zeros) == 0
        found = jax.device_get(run(broken))
        assert not np.isfinite(found["a"]).all() and not np.isfinite(found["b"]).all()


def test_a_batch_without_weight_leaves_the_memory_alone():
    made = top_k(given, fraction=0.25)
    batch = {"grads": jax.tree.map(lambda g: g * np.float32(np.nan), LIKE), "weight": 0}
    _, out = jax.jit(made.grad_fn)(LIKE, ctx(batch, unsent=GRADS[0]))
    jax.tree.map(np.testing.assert_array_equal, out.stats["unsent"], GRADS[0])


def test_what_rounding_to_bf16_loses_is_remembered():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), LIKE)
    made = error_feedback(given, lambda key, x: x)
    batch = {"grads": jax.tree.map(lambda x: x.astype(jnp.bfloat16), GRADS[0])}
    sent, out = jax.jit(made.grad_fn)(half, ctx(batch, unsent=GRADS[1]))
    wanted = jax.tree.map(lambda g, e: np.asarray(g, np.float32) + e, batch["grads"], GRADS[1])
    assert sent["a"].dtype == jnp.bfloat16 and apart(out.stats["unsent"], LIKE) > 1e-4
    left = jax.tree.map(lambda w, s: w - np.asarray(s, np.float32), wanted, sent)
    jax.tree.map(np.testing.assert_array_equal, out.stats["unsent"], left)


@pytest.mark.parametrize("how", ["pmap", "vmap", "shard_map"])
def test_before_the_all_reduce_every_device_has_a_memory_of_its_own(how):
    """Two steps on four devices of unequal weight, against numpy."""
    weights = np.array([1, 2, 0.5, 3], np.float32)
    made = top_k(given, fraction=0.25, replicas=None if how == "pmap" else 4)
    step = averaged(made.grad_fn, axis="data", local=("unsent",))
    run = lambda batch, unsent: step(LIKE, ctx(batch, unsent=unsent))
    own = lambda n: jax.tree.map(lambda *x: np.stack(x), *[GRADS[(i + n) % 6] for i in range(4)])
    if how == "shard_map":
        mesh, local = make_mesh({"data": -1}), Out({"unsent": P("data")}, P())
        # The memory keeps its [1, ...].
        inner = lambda batch, unsent, run=run: run(jax.tree.map(lambda x: x[0], batch), unsent)
        run = jax.jit(jax.shard_map(inner, mesh=mesh, in_specs=P("data"), out_specs=(P(), local)))
    else:
        run = jax.pmap(run, axis_name="data") if how == "pmap" else jax.jit(jax.vmap(run, axis_name="data"))
    memory = made.memory(KEY, LIKE)
    if how == "pmap":  # as a State is replicated
        memory = jax.tree.map(lambda x: np.stack([x] * 4), memory)
    assert memory["a"].shape == (4, 4, 5)
    error = jax.tree.map(np.zeros_like, own(0))
    for n in range(2):
        sent, out = run({"grads": own(n), "weight": weights}, memory)
        memory = out.stats["unsent"]
        for name, count in (("a", 5), ("b", 2)):
            wanted = own(n)[name] + error[name]
            parts = np.stack([largest(x, count) for x in wanted])
            error[name] = wanted - parts
            found = sent[name] if how == "shard_map" else sent[name][0]
            np.testing.assert_allclose(found, np.average(parts, axis=0, weights=weights), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(memory[name], error[name], rtol=1e-4, atol=1e-6)


def test_devices_round_at_random_by_themselves():
    batch = {"grads": jax.tree.map(lambda x: np.stack([x] * 4), GRADS[0])}
    alone = jax.pmap(lambda batch: int8(given)(LIKE, ctx(batch))[0])(batch)
    found = jax.pmap(lambda batch: averaged(int8(given), axis="data")(LIKE, ctx(batch))[0], axis_name="data")(batch)
    level = np.abs(GRADS[0]["a"]).max() / 127
    quarters = (np.asarray(found["a"][0]) - np.asarray(alone["a"][0])) / level  # 0 or whole had they rounded alike
    assert np.abs(quarters - np.round(quarters)).max() > 0.2


def test_errors():
    for fraction in (0, -0.1, 1.5):
        with pytest.raises(UserError, match="more than 0 and at most 1"):
            top_k(given, fraction=fraction)
    with pytest.raises(UserError, match="unknown stats entry 'unsent'.*Add the technique to .*techniques="):
        ef_sign(gradient(lambda params, ctx: None)).grad_fn(PARAMS, ctx())
