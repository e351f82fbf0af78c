"""What `save` copies is what a restore gives, whatever the loop does next; and the loop does not wait for Orbax."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.core import State
from research.runs.checkpoint import Checkpoints, read_raw


def state_on(sharding) -> State:
    """A State with arrays of several types."""
    params = {"w": jnp.arange(64.0).reshape(8, 8), "half": jnp.arange(4, dtype=jnp.bfloat16) / 3}
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
