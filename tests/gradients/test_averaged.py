"""On four devices, each with two rows of the batch; the third device's rows do not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from research.core import Out, draw, gradient, not_additive
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.gradients.accumulate import accumulate
from research.gradients.averaged import averaged
from tests.gradients.toy import KEY, LOSS, NOISY, PARAMS, SORTED, apart, close, ctx, poisoned

PLAIN = jax.jit(gradient(LOSS))
SPLIT = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), poisoned(SORTED))


def devices(grad_fn, how, stats=None):
    """What each of four devices returns, on a leading axis, as numpy arrays."""

    def run(batch):
        return grad_fn(PARAMS, ctx(batch, **stats or {}))

    if how == "pmap":
        return jax.device_get(jax.pmap(run, axis_name="data")(SPLIT))
    if how == "vmap":
        return jax.device_get(jax.jit(jax.vmap(run, axis_name="data"))(SPLIT))
    mesh = make_mesh({"data": -1})
    check = how == "shard_map"  # then its type system proves that what comes back is the same on all devices
    found = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=check))(
        jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), SPLIT)
    )
    return jax.tree.map(lambda x: np.stack([x] * 4), jax.device_get(found))


@pytest.mark.parametrize("how", ["pmap", "vmap", "shard_map", "shard_map unchecked"])
def test_every_device_returns_the_gradient_of_the_global_batch(how):
    plain, out = PLAIN(PARAMS, ctx(SORTED))
    grads, found = devices(averaged(gradient(LOSS), axis="data"), how)
    for device in range(4):
        close(jax.tree.map(lambda x, d=device: x[d], grads), plain)
        close(jax.tree.map(lambda x, d=device: x[d], found.metrics), out.metrics)
    means = np.average(np.nan_to_num(SPLIT["x"].mean(1)), axis=0, weights=SPLIT["mask"].sum(1))
    np.testing.assert_allclose(found.stats["mean"], np.tile(means / 2, (4, 1)), rtol=1e-5)
    assert (found.stats["seen"] == 1).all()


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_accumulate_inside_is_still_the_gradient_of_the_global_batch(how):
    plain, _ = PLAIN(PARAMS, ctx(SORTED))
    grads, _ = devices(averaged(accumulate(gradient(LOSS), 2), axis="data"), how)
    close(jax.tree.map(lambda x: x[0], grads), plain)


def test_floats_are_averaged_by_weight_and_integers_and_booleans_take_the_maximum():
    def loss(params, ctx):
        value, out = LOSS(params, ctx)
        index = jax.lax.axis_index("data")
        stats = {"float": 10.0 * index, "int": index, "any": index == 2, "own": 1.0 * index, "nested": {"a": index}}
        return value, Out(stats, out.metrics)

    old = {"float": 0.0, "int": 0, "any": False, "own": 0.0, "nested": {"a": 0, "b": 5}}
    old = jax.tree.map(jnp.asarray, old)
    _, out = devices(averaged(gradient(loss), axis="data", local=("own",)), "pmap", old)
    weights = SPLIT["mask"].sum(1)
    np.testing.assert_allclose(out.stats["float"], np.average([0, 10, 20, 30], weights=weights), rtol=1e-6)
    assert (out.stats["int"] == 3).all() and out.stats["any"].all() and out.stats["any"].dtype == bool
    assert out.stats["own"].tolist() == [0, 1, 2, 3] and (out.stats["nested"]["a"] == 3).all()
    assert "b" not in out.stats["nested"]


def test_floats_stay_where_no_device_had_weight():
    batch = {**SPLIT, "mask": np.zeros((4, 2), np.float32)}
    run = lambda batch: averaged(gradient(LOSS), axis="data")(PARAMS, ctx(batch, mean=np.full(3, 7, np.float32)))
    grads, out = jax.device_get(jax.pmap(run, axis_name="data")(batch))
    assert (out.stats["mean"] == 7).all() and apart(grads, jax.tree.map(np.zeros_like, grads)) == 0


def test_every_device_draws_its_own_random_numbers():
    grads, _ = devices(averaged(gradient(NOISY), axis="data"), "pmap")
    alone = jax.jit(lambda batch, device: gradient(NOISY)(PARAMS, ctx(batch, key=draw(KEY, "averaged", device))))
    total, weight = 0, 0
    for device in range(4):
        part, out = jax.device_get(alone(jax.tree.map(lambda x, d=device: np.nan_to_num(x[d]), SPLIT), device))
        total += float(out.metrics["loss"].weight) * part["head"]["bias"]
        weight += float(out.metrics["loss"].weight)
    np.testing.assert_allclose(grads["head"]["bias"][0], total / weight, rtol=1e-5)


def test_errors():
    with pytest.raises(UserError, match="no axis 'batch' is mapped"):
        averaged(gradient(LOSS), axis="batch")(PARAMS, ctx(SORTED))
    with pytest.raises(UserError, match="unknown stats entry 'men'. Did you mean 'mean'"):
        devices(averaged(gradient(LOSS), axis="data", local=("men",)), "vmap")

    def contrastive(params, ctx):
        value, out = LOSS(params, ctx)
        return value, Out(out.stats, {**out.metrics, "loss": not_additive(out.metrics["loss"])})

    with pytest.raises(UserError, match="averaged splits the batch"):
        devices(averaged(gradient(contrastive), axis="data"), "vmap")
