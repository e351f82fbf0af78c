"""The rows of the global batch that a process holds: it reads only those, where the source can give them."""

import jax
import numpy as np

from research.data.sampling.source import BatchAt
from research.distributed.sharding import BATCH_AXES, place, placement
from research.errors import UserError


def read_own_rows(batch_at: BatchAt, mesh, *, size: int, axis: int = 0, complete=lambda batch: batch):
    """(read, put): `put(read(step))` is the global batch of `batch_at(step)`, split over the mesh along `axis`.

    It is the same for any number of processes. In a job of several, `read` asks for `rows=` of the `size` that the
    devices of this process hold; if they do not divide, each process reads them all.
    `complete` is applied to a batch that is read whole.
    """
    rows = own_rows(mesh, size)
    if rows is None:
        return batch_at, lambda batch: place(complete(batch), mesh, axis=axis)
    spec = placement(mesh, axis=axis)

    def put(x):
        x = np.asarray(x, jax.dtypes.canonicalize_dtype(np.asarray(x).dtype))
        if x.shape[axis] != len(rows):
            raise UserError(f"a source was asked for {len(rows)} rows= of its batch and gave {x.shape[axis]}.")

        def part(index):
            first, last, _ = index[axis].indices(size)
            start = int(np.searchsorted(rows, first))
            return x[(*index[:axis], slice(start, start + last - first), *index[axis + 1 :])]

        return jax.make_array_from_callback((*x.shape[:axis], size, *x.shape[axis + 1 :]), spec, part)

    return lambda step: batch_at(step, rows=rows), lambda batch: jax.tree.map(put, batch)


def own_rows(mesh, size: int) -> np.ndarray | None:
    """The sorted row numbers that this process's devices hold of a batch of `size`; None where they are all."""
    split = placement(mesh)
    if size % int(np.prod([mesh.shape[name] for name in BATCH_AXES])):
        return None
    indices = split.addressable_devices_indices_map((size,)).values()
    rows = np.unique(np.concatenate([np.arange(size)[index] for index in indices]))
    return None if len(rows) == size else rows
