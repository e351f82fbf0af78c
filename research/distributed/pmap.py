"""`jax.pmap` as an execution mode of any experiment: one program for one device, run on all of them with their rows.

A gradient is averaged over the devices (`gradients.averaged`), and all else is computed alike on each. So for a
deterministic loss that adds over examples the numbers are those of jit on the mesh, and of one device, to rounding.
What differs: a loss that is `NotAdditive` is refused; random numbers, which are drawn on each device by itself; batch
normalisation, which sees the rows of one device, unless its `group_size` is that number of rows. `private`, whose noise
every device would add anew, refuses it. JAX keeps pmap in maintenance; it is here for papers that were tuned under it.
"""

import jax
from jax.sharding import NamedSharding, PartitionSpec

from research.errors import UserError

AXIS = "data"


def pmapped(function, mesh, *, carried: int, axis: int = 0, donated: tuple[int, ...] = ()):
    """`function(*carried, batch)` under pmap, over an axis named "data". What is `carried` is whole on every device,
    and so is what comes back, the same from all; of the batch each device has its part of every leaf's `axis`.
    """
    devices = list(mesh.devices.flat)
    alone = jax.sharding.Mesh(devices, AXIS)

    def split(batch):
        return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], len(devices), -1, *x.shape[axis + 1 :]), batch)

    apart = jax.jit(split, out_shardings=NamedSharding(alone, PartitionSpec(*(None,) * axis, AXIS)))
    run = jax.pmap(
        function, axis_name=AXIS, in_axes=(*(None,) * carried, axis), out_axes=None, devices=devices,
        donate_argnums=donated,
    )  # fmt: skip
    return lambda *inputs: run(*inputs[:-1], apart(inputs[-1]))


def check_replicated(layout, mesh):
    """Raises UserError where this mesh, or a State with these shardings, asks for more than copies on each device."""
    if jax.process_count() > 1:
        raise UserError("the strategy pmap runs in one process only; with several, use jit.")
    for name, size in mesh.shape.items():
        if size > 1 and name != AXIS:
            raise UserError(f"the strategy pmap copies all to every device: a mesh axis {name!r} of {size} needs jit.")
    if any(not sharding.is_fully_replicated for sharding in jax.tree.leaves(layout)):
        raise UserError("the strategy pmap copies all to every device: rules that split arrays need jit.")
