"""Where arrays live: a mesh of named axes, and a table of (path pattern -> PartitionSpec), first match wins."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError
from research.tree import path_name

BATCH_AXES = ("data", "fsdp")  # the axes over which a batch is split


def make_mesh(axes, *, devices=None) -> Mesh:
    """A Mesh from {axis: size}; one size may be -1 and takes all devices that are left.

    Raises UserError where the sizes do not use the devices exactly.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(axes)
    fixed = int(np.prod([size for size in sizes.values() if size != -1]))
    for name, size in sizes.items():
        if size == -1:
            sizes[name] = len(devices) // fixed
    if int(np.prod(list(sizes.values()))) != len(devices):
        raise UserError(f"a mesh of {dict(axes)} does not fit {len(devices)} devices.")
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=kinds, devices=devices)


def shardings(tree, mesh, rules=()):
    """A NamedSharding for every leaf: the spec of the first rule whose pattern is found in its path, e.g.
    `params/encoder/kernel`; replicated where none is. A pattern that matches nothing raises UserError.
    """
    unused = {pattern for pattern, _ in rules}

    def spec(path, _):
        for pattern, found in rules:
            if re.search(pattern, path_name(path)):
                unused.discard(pattern)
                return NamedSharding(mesh, found)
        return NamedSharding(mesh, PartitionSpec())

    result = jax.tree.map_with_path(spec, tree)
    if unused:
        paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(tree)]
        raise UserError(f"sharding rules match nothing: {sorted(unused)}. Paths are like {paths[:8]}.")
    return result


def place(batch, mesh, *, axis: int = 0):
    """A host batch on the devices: the leaves' `axis` split over the mesh's batch axes."""
    names = tuple(name for name in mesh.axis_names if name in BATCH_AXES)
    spec = PartitionSpec(*(None,) * axis, names or None)
    return jax.device_put(batch, NamedSharding(mesh, spec))


def check_batch(size: int, mesh):
    """Raises UserError where a batch of `size` examples cannot be split over the mesh's batch axes."""
    ways = int(np.prod([mesh.shape[name] for name in mesh.axis_names if name in BATCH_AXES]))
    if size % ways:
        raise UserError(f"a batch of {size} examples cannot be split over {ways} devices; take a multiple of {ways}.")
