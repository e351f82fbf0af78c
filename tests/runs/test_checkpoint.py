"""What `save` copies is what a restore gives, whatever the loop does next; and the loop does not wait for Orbax."""

import math
import re
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.core import State
from research.errors import UserError
from research.runs.checkpoint import Checkpoints, read_raw
from research.runs.fingerprint import fingerprints_of


def state_on(sharding) -> State:
    """A State with arrays of several types."""
    params = {"w": jnp.arange(64.0).reshape(8, 8), "half": jnp.arange(4, dtype=jnp.bfloat16) / 3}
    params |= {"complex": jnp.array([1 + 2j, 3j], jnp.complex64), "four bits": jnp.array([-8, 7, 1], jnp.int4)}
    whole = NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else sharding
    made = State(jnp.uint32(7), jnp.uint32(0), jnp.int32(5), params, {"flags": jnp.array([True, False])}, ())
    made = jax.device_put(made, whole)
    return made._replace(params={**made.params, "w": jax.device_put(params["w"], sharding)})


@pytest.fixture
def gate(monkeypatch):
    """Orbax begins when it is set."""
    gate, save = threading.Event(), ocp.CheckpointManager.save
    monkeypatch.setattr(ocp.CheckpointManager, "save", lambda *args, **kw: gate.wait(60) and save(*args, **kw))
    return gate


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_a_save_holds_the_state_of_its_call_and_the_loop_need_not_wait(tmp_path, monkeypatch, gate, backend, split):
    two = NamedSharding(jax.sharding.Mesh(jax.devices()[:2], "data"), PartitionSpec("data"))
    state = state_on(two if split else jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    expected = jax.tree.map(np.array, state)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    spoil = jax.jit(lambda state: jax.tree.map(lambda x: (x != x).astype(x.dtype), state), donate_argnums=0)
    if split and backend == "gpu":
        gate.set()  # parts on accelerators are fetched by Orbax, while the loop waits
    with Checkpoints(tmp_path / "checkpoints") as saved:
        with monkeypatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda: backend)
            saved.save(state, {"step": 5, "notes": (notes := ["then"])})
        notes.append("later")
        jax.block_until_ready(spoil(state))
        assert gate.is_set() or not saved.steps()
        gate.set()
        saved.wait()
        restored, meta, damaged = saved.restore(abstract)
    assert not damaged and meta["notes"] == ["then"]
    jax.tree.map(np.testing.assert_array_equal, restored, expected)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, abstract)
    np.testing.assert_array_equal(read_raw(tmp_path / "checkpoints" / "5")["params"]["w"], expected.params["w"])


def test_a_checkpoint_of_an_earlier_version_is_restored(tmp_path):
    """They were compressed, and saved as a "standard" item."""
    state, folder = state_on(jax.sharding.SingleDeviceSharding(jax.devices()[0])), tmp_path / "checkpoints"
    with Checkpoints(folder) as saved:
        saved.save(state, {"step": 5})
    shutil.rmtree(folder / "5" / "state")
    with ocp.StandardCheckpointer() as standard:
        standard.save(folder / "5" / "state", state._asdict())
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    with Checkpoints(folder, read_only=True) as saved:
        restored = saved.restore(abstract, step=5).state
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_an_array_without_entries_is_refused_before_the_first_step(tmp_path):
    state = state_on(jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    state = jax.eval_shape(lambda: state._replace(params={**state.params, "none": jnp.zeros((0, 3))}))
    with (
        Checkpoints(tmp_path / "checkpoints") as saved,
        pytest.raises(UserError, match="array params/none of the State"),
    ):
        saved.restore(state)


@pytest.mark.parametrize("spec", [(), ("data",), (None, "data")])
def test_a_fingerprint_is_that_of_earlier_versions_and_no_array_is_gathered(spec):
    two = NamedSharding(jax.sharding.Mesh(jax.devices()[:2], "data"), PartitionSpec(*spec))
    x = {"x": jax.device_put(np.arange(64 * 48, dtype=np.float32).reshape(64, 48), two)}
    assert fingerprints_of(x)["x"].tolist() == [1046478848, 4286578688]
    gathered = re.findall(r"\w+\[([\d,]+)\]\S* all-gather\(", fingerprints_of.lower(x).compile().as_text())
    assert all(math.prod(map(int, shape.split(","))) <= 4 for shape in gathered), gathered


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.int4])
def test_every_entry_of_any_type_is_in_the_fingerprint(dtype):
    x = jnp.arange(4).astype(dtype)
    changed = [x, *(x.at[i].add(1) for i in range(4))] + ([x.at[0].add(1j)] if dtype == jnp.complex64 else [])
    assert len({tuple(fingerprints_of({"x": y})["x"].tolist()) for y in changed}) == len(changed)
