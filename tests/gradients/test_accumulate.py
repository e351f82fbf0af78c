import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from research.core import Mean, Out, draw, gradient, merge, not_additive
from research.distributed.sharding import make_mesh, place
from research.errors import UserError
from research.gradients.accumulate import accumulate
from tests.gradients.toy import BATCH, KEY, LOSS, NOISY, PARAMS, apart, close, ctx, poisoned

PLAIN = jax.jit(gradient(LOSS))


def rows(batch, i, n):
    return jax.tree.map(lambda x: x[i::n], batch)


def test_a_microbatch_without_weight_counts_in_nothing_though_its_gradient_is_nan():
    plain, out = PLAIN(PARAMS, ctx())
    empty, _ = PLAIN(PARAMS, ctx(rows(poisoned(), 2, 4)))
    assert np.isnan(empty["hidden"]["kernel"]).all()
    grads, found = jax.jit(accumulate(gradient(LOSS), 4))(PARAMS, ctx(poisoned()))
    close(grads, plain)
    close(found.metrics, out.metrics)
    assert found.stats["seen"] == 3 and np.isfinite(found.stats["mean"]).all()


def test_it_is_the_weighted_mean_over_interleaved_microbatches_with_chained_stats_and_keys_of_their_own():
    grad_fn = jax.jit(gradient(NOISY))
    stats, total, weight, metrics = {}, 0, 0, None
    for i in range(2):
        part, out = jax.device_get(grad_fn(PARAMS, ctx(rows(BATCH, i, 2), key=draw(KEY, "accumulate", i), **stats)))
        mine = float(out.metrics["loss"].weight)
        total = jax.tree.map(
            lambda t, g, w=mine: t + w * np.asarray(g), total or jax.tree.map(np.zeros_like, part), part
        )
        weight, stats = weight + mine, out.stats
        metrics = merge(metrics, out.metrics) if metrics else out.metrics
    run = jax.jit(accumulate(gradient(NOISY), 2))
    grads, found = run(PARAMS, ctx(another=np.ones(2)))  # an entry that the loss does not change is not given back
    close(grads, jax.tree.map(lambda t: t / weight, total))
    close(found, Out(stats, metrics))
    assert apart(grads, run(PARAMS, ctx(key=jax.random.key(8)))[0]) > 0.01


def test_one_microbatch_is_the_gradient_itself():
    grad_fn = gradient(LOSS)
    assert accumulate(grad_fn, 1) is grad_fn


def test_sums_are_in_f32_and_the_gradient_in_the_dtype_of_the_params():
    def linear(params, ctx):
        mean = Mean(jnp.sum(params["w"] * ctx.batch["x"]), jnp.float32(len(ctx.batch["x"])))
        return mean.value(), Out({}, {"loss": mean})

    x = np.array([256] + [0.5] * 7, jnp.bfloat16)  # 256 + 0.5 is 256 in bf16
    params = {"w": np.ones((), jnp.bfloat16)}
    grads, _ = jax.jit(accumulate(gradient(linear), 8))(params, ctx({"x": x}))
    assert grads["w"].dtype == jnp.bfloat16 and float(grads["w"]) == 32.5


def test_the_devices_of_a_sharded_batch_keep_their_rows():
    batch = jax.tree.map(lambda x: np.concatenate([x, x]), BATCH)
    mesh = make_mesh({"data": -1})
    run = jax.jit(accumulate(gradient(LOSS), 2))
    inputs = ctx(batch)._replace(batch=place(batch, mesh))
    compiled = run.lower(PARAMS, inputs).compile()
    program = compiled.as_text()
    assert "all-reduce" in program and not re.search("all-to-all|collective-permute|all-gather", program)
    close(compiled(PARAMS, inputs)[0], PLAIN(PARAMS, ctx(batch))[0])


def test_what_cannot_be_split_is_refused(monkeypatch):
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for n in (0, 1.5, True):
        with pytest.raises(UserError, match="integer of at least 1"):
            accumulate(gradient(LOSS), n)
    with pytest.raises(UserError, match="8 examples cannot be split into 3 microbatches; use a multiple of 3"):
        accumulate(gradient(LOSS), 3)(PARAMS, ctx())
    for field in (np.float32(1), np.zeros(4)):
        with pytest.raises(UserError, match="fields with the same leading size.*'more'"):
            accumulate(gradient(LOSS), 2)(PARAMS, ctx({**BATCH, "more": field}))

    def contrastive(params, ctx):
        value, out = LOSS(params, ctx)
        return value, Out(out.stats, {**out.metrics, "loss": not_additive(out.metrics["loss"])})

    with pytest.raises(UserError, match="accumulate splits the batch"):
        accumulate(gradient(contrastive), 2)(PARAMS, ctx())
    jax.eval_shape(accumulate(gradient(contrastive), 1), PARAMS, ctx())
