"""Read only those rows of the global batch that the devices of this process hold."""

import jax
import numpy as np

from research.data.sampling.source import BatchAt
from research.distributed.sharding import BATCH_AXES, place, placement
from research.errors import UserError


def read_own_rows(batch_at: BatchAt, mesh, *, size: int, axis: int = 0, complete=lambda batch: batch):
    """Return (read, put): `put(read(step))` is the global batch of `batch_at(step)`, split over the mesh along `axis`.

    The result is the same for any number of processes. In a job of several processes, `read` passes `rows=`, the rows
    that the devices of this process hold. If the devices do not divide `size`, every process reads all rows.
    `complete` is applied only to a batch that is read with all its rows. `put` raises UserError if the source returns
    another number of rows than requested.
    """
    rows = own_rows(mesh, size)
    if rows is None:
        return batch_at, lambda batch: place(complete(batch), mesh, axis=axis)
    spec = placement(mesh, axis=axis)

    def put(x):
        x = np.asarray(x, jax.dtypes.canonicalize_dtype(np.asarray(x).dtype))
        if x.shape[axis] != len(rows):
            raise UserError(f"a source returned {x.shape[axis]} rows of its batch; expected {len(rows)}, as in rows=.")

        def part(index):
            first, last, _ = index[axis].indices(size)
            start = int(np.searchsorted(rows, first))
            return x[(*index[:axis], slice(start, start + last - first), *index[axis + 1 :])]

        return jax.make_array_from_callback((*x.shape[:axis], size, *x.shape[axis + 1 :]), spec, part)

    return lambda step: batch_at(step, rows=rows), lambda batch: jax.tree.map(put, batch)


def own_rows(mesh, size: int) -> np.ndarray | None:
    """Return the sorted numbers of the rows of a batch that this process's devices hold; None means all rows."""
    split = placement(mesh)
    if size % int(np.prod([mesh.shape[name] for name in BATCH_AXES])):
        return None
    indices = split.addressable_devices_indices_map((size,)).values()
    rows = np.unique(np.concatenate([np.arange(size)[index] for index in indices]))
    return None if len(rows) == size else rows
