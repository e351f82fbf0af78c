"""Arrays of a checkpoint are read into memory that the CPU uses as it is, whole or in the parts of a process."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.runs import checkpoint_arrays
from research.runs.checkpoint_arrays import ALIGNMENT, BLOCK, read_arrays

PARAMS = {"a/b": jnp.arange(48.0).reshape(8, 6), "nested": {"0": [jnp.int8(3)]}, "half": jnp.ones(3, jnp.bfloat16) / 3}


def saved(folder, tree):
    with ocp.PyTreeCheckpointer(use_ocdbt=True) as writer:
        writer.save(folder / "state", tree)
    return folder / "state"


def abstract(tree, sharding=None):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def test_what_orbax_wrote_is_read_whatever_the_containers_and_names(tmp_path):
    tree = {"params": PARAMS, "opt": optax.adam(1e-3).init(PARAMS), "step": jnp.int32(7)}
    found = read_arrays(saved(tmp_path, tree), abstract(tree))
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, found, tree)


@pytest.mark.parametrize("spec", [(), ("data",), (None, "data"), ("data", "model")])
def test_a_process_reads_the_parts_of_its_devices(tmp_path, monkeypatch, spec):
    mesh = jax.sharding.Mesh(np.reshape(jax.devices()[:4], (2, 2)), ("data", "model"))
    tree = {"x": jnp.arange(48.0).reshape(8, 6)}
    wanted = abstract(tree, NamedSharding(mesh, PartitionSpec(*spec)))
    monkeypatch.setattr(checkpoint_arrays, "_is_local", lambda x: False)  # as in a job of several processes
    sizes, take = [], checkpoint_arrays._Memory.take
    monkeypatch.setattr(
        checkpoint_arrays._Memory, "take", lambda self, shape, dtype: sizes.append(shape) or take(self, shape, dtype)
    )
    found = read_arrays(saved(tmp_path, tree), wanted)["x"]
    np.testing.assert_array_equal(found, tree["x"])
    assert found.sharding == wanted["x"].sharding
    # Every entry is read once, however many devices hold it.
    assert sum(map(np.prod, sizes)) == 48 and set(sizes) == {wanted["x"].sharding.shard_shape((8, 6))}


def test_another_shape_or_dtype_and_a_missing_array_are_errors(tmp_path):
    folder = saved(tmp_path, {"x": jnp.zeros((2, 3))})
    for changed, message in [
        ({"x": jax.ShapeDtypeStruct((3, 2), jnp.float32)}, r"float32\[2, 3\], expected float32\[3, 2\]"),
        ({"x": jax.ShapeDtypeStruct((2, 3), jnp.int32)}, "expected int32"),
        ({"y": jax.ShapeDtypeStruct((2, 3), jnp.float32)}, "NOT_FOUND"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_arrays(folder, changed)


def test_memory_is_aligned_and_never_shared():
    memory = checkpoint_arrays._Memory()
    shapes = [(3,), (5, 7), (), (BLOCK // 4 - 40,), (BLOCK,), (1,)]
    taken = [memory.take(shape, np.dtype(np.float32)) for shape in shapes]
    for number, x in enumerate(taken):
        assert x.shape == shapes[number] and x.ctypes.data % ALIGNMENT == 0
        x[...] = number
    assert all((x == number).all() for number, x in enumerate(taken))


def test_a_step_that_donates_what_was_read_gives_the_right_numbers(tmp_path):
    tree = {"x": jnp.arange(2.0**16), "y": jnp.ones(2**16)}
    found = read_arrays(saved(tmp_path, tree), abstract(tree))
    step = jax.jit(lambda t: {"x": t["x"] + t["y"], "y": t["x"]}, donate_argnums=0)
    once = {"x": tree["x"] + 1, "y": tree["x"]}
    jax.tree.map(np.testing.assert_array_equal, step(found), once)
