"""`jax.pmap` as an execution mode of any experiment: the program of one device runs on all, each with its rows.

Gradients are averaged over devices (`gradients.averaged`); all other computations are the same on every device. For a
deterministic loss that is additive over examples, results equal those of jit on the mesh, and of one device, up to
rounding. Differences: a `NotAdditive` loss is refused; random numbers are drawn per device; batch normalisation uses
the rows of one device, which is exact only if its `group_size` is that number of rows. `private` refuses pmap, because
every device would add its own noise. pmap is in maintenance mode in JAX; it serves papers that were tuned with it.
"""

import jax
from jax.sharding import NamedSharding, PartitionSpec

from research.errors import UserError

AXIS = "data"


def pmapped(function, mesh, *, axis: int = 0):
    """Run `function(carried, batch)` under pmap, over an axis named "data".

    `carried` is replicated and donated, as are the results; the batch is split along `axis` of every leaf.
    """
    devices = list(mesh.devices.flat)
    alone = jax.sharding.Mesh(devices, AXIS)

    def split(batch):
        return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], len(devices), -1, *x.shape[axis + 1 :]), batch)

    apart = jax.jit(split, out_shardings=NamedSharding(alone, PartitionSpec(*(None,) * axis, AXIS)))
    run = jax.pmap(
        function, axis_name=AXIS, in_axes=(None, axis), out_axes=None, devices=devices, donate_argnums=0
    )  # fmt: skip
    return lambda carried, batch: run(carried, apart(batch))


def check_replicated(layout, mesh):
    """Raise UserError if the mesh, or the shardings of a State, need more than replication."""
    if jax.process_count() > 1:
        raise UserError("the strategy pmap runs in one process only; with several, use jit.")
    for name, size in mesh.shape.items():
        if size > 1 and name != AXIS:
            raise UserError(f"the strategy pmap replicates everything; a mesh axis {name!r} of {size} needs jit.")
    if any(not sharding.is_fully_replicated for sharding in jax.tree.leaves(layout)):
        raise UserError("the strategy pmap replicates everything; rules that split arrays need jit.")
