"""Checkpoints: how long a save blocks the loop, how long it takes until it is on disk, how long a restore takes."""

import os
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from research.core import State
from research.runs.checkpoint import Checkpoints
from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve


def state_of(s) -> State:
    """A state whose params are the given megabytes (of 10^6 bytes) of f32 in the given number of arrays."""
    size = s.megabytes * 10**6 // (4 * s.arrays)
    params = jax.jit(lambda: {f"array{i:03}": jnp.arange(size, dtype=jnp.float32) + i for i in range(s.arrays)})()
    return State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), params, {}, {})


def ours(work: works.Work, gate: Gate, *, what: str):
    """`Checkpoints.save` until it returns ("blocks") or all is on disk ("whole"); or a verified `restore`."""
    state = jax.block_until_ready(state_of(work.sizes))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    with tempfile.TemporaryDirectory(dir=".") as folder, Checkpoints(Path(folder, "checkpoints"), keep=1) as saved:
        if what == "restore":
            saved.save(state, {"step": 1})
            saved.wait()

        def one(step):
            began = time.perf_counter()
            if what == "restore":
                jax.block_until_ready(saved.restore(abstract).state)
                return time.perf_counter() - began
            saved.save(state, {"step": step})
            blocked = time.perf_counter() - began
            saved.wait()
            return blocked if what == "blocks" else time.perf_counter() - began

        _timed(gate, one)


def raw(work: works.Work, gate: Gate, *, what: str):
    """The same bytes as files of numpy: written, one after the other, and forced to disk; or read."""
    state = jax.block_until_ready(state_of(work.sizes))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        names = [Path(folder, name) for name in state.params]

        def write():
            for path, array in zip(names, state.params.values(), strict=True):
                with open(path, "wb") as file:
                    file.write(np.asarray(array).data)
                    os.fsync(file.fileno())

        def read():
            return [jax.device_put(np.fromfile(path, np.float32)) for path in names]

        write()

        def one(step):
            began = time.perf_counter()
            jax.block_until_ready(write() if what == "fsync" else read())
            return time.perf_counter() - began

        _timed(gate, one)


def _timed(gate, one):
    """Turns of steps that tell their own time."""
    step, seconds = 1, None
    while steps := gate.turn(seconds=seconds):
        seconds = sum(one(step + i + 1) for i in range(steps))
        step += steps


if __name__ == "__main__":
    restoring = {"ours": "restore", "floor": "read"}
    saving = {"ours-blocks": "blocks", "ours": "whole", "floor": "fsync"}

    def chosen(name, function):
        """The contender of that name: what it does depends on the work."""
        return lambda work, gate: function(work, gate, what=(restoring if work.kind == "restore" else saving)[name])

    serve({name: chosen(name, raw if name == "floor" else ours) for name in saving})
