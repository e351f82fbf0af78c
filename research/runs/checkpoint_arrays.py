"""Read the arrays of a checkpoint: zarr arrays in one OCDBT database of TensorStore, as Orbax writes them.

Orbax's own reader takes half a millisecond of Python per array and returns memory that `jax.device_put` copies again.
Here every array is read into aligned memory, which the CPU backend uses as it is. A restore takes half of the CPU time.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
import tensorstore as ts

from research.axes import PyTree

ALIGNMENT = 64  # bytes: the CPU backend copies memory with a smaller alignment
BLOCK = 16 * 2**20  # bytes that small arrays share, because numpy requests huge pages only from 4 MiB on
NODES = 100 * 2**20  # bytes of the database's nodes that are kept: each is read once


class _Read(NamedTuple):
    """A part of an array that is being read into `memory`."""

    memory: np.ndarray
    done: ts.Future


def read_arrays(folder, abstract: PyTree) -> PyTree:
    """Read the arrays of a tree of ShapeDtypeStructs from a folder that Orbax wrote, with their shardings.

    In a job of several processes, a process reads only the parts that its devices hold. Raises ValueError if an array
    is missing or has another shape or dtype, or if the data cannot be read.
    """
    context, take = ts.Context({"cache_pool#nodes": {"total_bytes_limit": NODES}}), _Memory().take
    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}, "cache_pool": "cache_pool#nodes"}

    def open_array(path):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return ts.open({"driver": "zarr", "kvstore": {**database, "path": name}}, read=True, open=True, context=context)

    def start(store, index):
        memory = take(store[index].shape, store.dtype.numpy_dtype)
        return _Read(memory, ts.array(memory, copy=False).write(store[index]))

    leaves, tree = jax.tree.flatten(abstract)
    stores = [future.result() for future in [open_array(path) for path, _ in jax.tree.leaves_with_path(abstract)]]
    for x, store in zip(leaves, stores, strict=True):
        if store.shape != x.shape or store.dtype.numpy_dtype != x.dtype:
            found = f"{store.dtype.name}{list(store.shape)}"
            raise ValueError(f"it has an array {found}, expected {x.dtype.name}{list(x.shape)}")
    reads = [
        {name: start(store, index) for name, index in _indices(x).items()}
        for x, store in zip(leaves, stores, strict=True)
    ]
    for read in (read for parts in reads for read in parts.values()):
        read.done.result()
    arrays = [_assembled(x, parts) for x, parts in zip(leaves, reads, strict=True)]
    return jax.device_put(tree.unflatten(arrays), jax.tree.map(lambda x: x.sharding, abstract))


def _is_local(x) -> bool:
    """Return whether all devices of an array belong to this process; the array is then read in one piece."""
    return x.sharding is None or x.sharding.is_fully_addressable


def _indices(x) -> dict:
    """Return the indices of the parts of an array that this process reads, by their text: slices have no hash."""
    indices = [...] if _is_local(x) else x.sharding.addressable_devices_indices_map(x.shape).values()
    return {str(index): index for index in indices}


def _assembled(x, parts):
    """Return the complete array, or the global array whose local parts are `parts`."""
    if _is_local(x):
        return parts[str(...)].memory
    return jax.make_array_from_callback(x.shape, x.sharding, lambda index: parts[str(index)].memory)


class _Memory:
    """Aligned memory for arrays, in which small arrays share blocks."""

    def __init__(self):
        self.block = np.empty(0, np.uint8)

    def take(self, shape, dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        room = -(-size // ALIGNMENT) * ALIGNMENT
        if room > len(self.block):
            block = np.empty(max(room, BLOCK) + ALIGNMENT, np.uint8)
            self.block = block[-block.ctypes.data % ALIGNMENT :]
        taken, self.block = self.block[:size], self.block[room:]
        return taken.view(dtype).reshape(shape)
