"""Where arrays live: a mesh of named axes, and a table of (path pattern -> PartitionSpec or tactic), first match wins.

    mesh  = {"data": -1, "tensor": 2}                              # the axes not named have size 1
    rules = ((r"up/kernel$", P(None, "tensor")), (r".", fsdp()))   # what matches nothing is replicated

The train step is the same on every mesh: XLA's partitioner derives the communication from where its arguments live.
"""

import math
import re
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError, unknown
from research.tree import path_name

# From the slowest network to the fastest: stages of layers, copies, shards of params, experts, parts of a sequence,
# parts of a matrix.
AXES = ("pipeline", "data", "fsdp", "expert", "context", "tensor")
BATCH_AXES = ("data", "fsdp", "expert")  # the axes over which a batch is split
ON_HOST = "on_host"  # what is below a part of a path with this name lives in the host's memory
STACKED = "stacked"  # the arrays below a part of a path with this name have a leading axis of layers

Tactic = Callable[[str, tuple[int, ...], Mesh], PartitionSpec]


def make_mesh(axes, *, devices=None) -> Mesh:
    """A Mesh of all six AXES from {axis: size}; those not named have size 1. One size may be -1 and takes all devices
    that are left.

    Raises UserError for an unknown axis, and where the sizes do not use the devices exactly.
    """
    devices = list(jax.devices() if devices is None else devices)
    for name in axes:
        if name not in AXES:
            raise unknown("mesh axis", name, AXES)
    sizes = {name: axes.get(name, 1) for name in AXES}
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if fixed > 0 and list(sizes.values()).count(-1) < 2:
        sizes = {name: len(devices) // fixed if size == -1 else size for name, size in sizes.items()}
    if fixed < 1 or math.prod(sizes.values()) != len(devices) or min(sizes.values()) < 1:
        raise UserError(f"a mesh of {dict(axes)} does not fit {len(devices)} devices.")
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=kinds, devices=devices)


def fsdp(*base, min_size: int = 2**14) -> Tactic:
    """A tactic: the largest dimension that the axis "fsdp" divides is split over it; of equal ones the last.

    Arrays of fewer than `min_size` entries stay whole: to gather a bias costs more than to keep it. `base` are the
    entries of a PartitionSpec to begin with: `fsdp(None, "tensor")` leaves the second dimension to "tensor".
    """

    def tactic(path, shape, mesh):
        if mesh.shape["fsdp"] == 1:
            return PartitionSpec(*base)
        spec = [*base, *(None,) * (len(shape) - len(base))]
        free = [d for d, names in enumerate(spec) if names is None and shape[d] % mesh.shape["fsdp"] == 0]
        if free and math.prod(shape) >= min_size:
            spec[max(free, key=lambda d: (shape[d], d))] = "fsdp"
        return PartitionSpec(*spec)

    return tactic


def shardings(tree, mesh, rules=()):
    """A NamedSharding for every leaf: by the first of the `rules` whose pattern is found in its path, such as
    `params/encoder/kernel`; replicated where none is. A rule is (pattern, PartitionSpec) or (pattern, tactic), a
    tactic being a function (path, shape, mesh) -> PartitionSpec.

    Rules speak of params. A leaf of `opt` or `stats` whose path ends in that of a param, and which has its shape (a
    moment, an average), lives where the param does; for others there are patterns that begin with `opt/` or `stats/`.
    Below a part named `stacked` the specs are those of one layer, and the leading axis of layers is split over
    "pipeline".

    Raises UserError for a pattern that matches nothing, and for a spec with an unknown axis, with more entries than
    the leaf has dimensions, or of a dimension that does not divide.
    """
    unused = {pattern for pattern, _ in rules}
    params = {}

    def sharding(path, leaf):
        name = path_name(path)
        part, _, rest = name.partition("/")
        aside = part if part in ("opt", "stats") else None
        found = _followed(rest, leaf, params) if aside else None
        for pattern, rule in rules:
            if re.search(pattern, name) and (not aside or pattern.lstrip("^").startswith(f"{aside}/")):
                unused.discard(pattern)
                found = _spec(name, leaf, mesh, rule, f"the rule {pattern!r}")
                break
        if found is None:
            found = _spec(name, leaf, mesh, PartitionSpec(), "no rule")
        if part == "params":
            params[rest] = (leaf.shape, found)
        return NamedSharding(mesh, found, memory_kind="pinned_host" if ON_HOST in name.split("/") else None)

    result = jax.tree.map_with_path(sharding, tree)
    if unused:
        paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(tree)]
        raise UserError(f"sharding rules match nothing: {sorted(unused)}. Paths are like {paths[:8]}.")
    return result


def _followed(name, leaf, params):
    """The spec of the param whose path ends this leaf's, if it has the same shape; the longest such path counts."""
    parts = name.split("/")
    for suffix in ("/".join(parts[start:]) for start in range(len(parts))):
        if suffix in params:
            shape, spec = params[suffix]
            return spec if shape == leaf.shape else None
    return None


def _spec(name, leaf, mesh, rule, what):
    """The spec that a rule gives to a leaf, checked."""
    stacked = STACKED in name.split("/")
    shape = leaf.shape[1:] if stacked else leaf.shape
    if not isinstance(rule, PartitionSpec) and not callable(rule):
        raise UserError(f"{what} gives {rule!r}; expected a PartitionSpec or a tactic(path, shape, mesh).")
    spec = rule if isinstance(rule, PartitionSpec) else rule(name, shape, mesh)
    if stacked:
        shape, spec = leaf.shape, PartitionSpec("pipeline" if mesh.shape["pipeline"] > 1 else None, *spec)
    if len(spec) > len(shape):
        raise UserError(f"{what} gives {name} {list(shape)} the spec {spec}, which has too many dimensions.")
    taken = [axis for names in spec for axis in _axes(names)]
    for axis in taken:
        if axis not in mesh.shape:
            raise unknown(f"mesh axis in {what}", axis, mesh.axis_names)
        if taken.count(axis) > 1:
            raise UserError(f"{what} gives {name} the spec {spec}, which uses {axis!r} twice.")
    for dimension, names in enumerate(spec):
        count = math.prod(mesh.shape[axis] for axis in _axes(names))
        if shape[dimension] % count:
            raise UserError(
                f"{what} splits dimension {dimension} of {name} {list(shape)} into {count} over {names!r}, which does "
                f"not divide {shape[dimension]}."
            )
    return spec


def _axes(names) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def table(tree) -> str:
    """What lies where, for leaves with a shape, a dtype and a sharding: a line for each kind of param (layers that
    differ in a number are one), and for what does not live where its param does; then the totals.
    """
    lines, totals, params = {}, {}, {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name, spec = path_name(path), leaf.sharding.spec
        part, _, rest = name.partition("/")
        here, all_ = (math.prod(s) * leaf.dtype.itemsize for s in (leaf.sharding.shard_shape(leaf.shape), leaf.shape))
        if rest:
            total = totals.setdefault(part, [0, 0])
            total[:] = total[0] + here, total[1] + all_
        if part == "params":
            params[rest] = (leaf.shape, spec)
        elif not leaf.shape or _followed(rest, leaf, params) == spec:
            continue
        kind = (re.sub(r"(?<=/)\d+(?=/)", "*", name), f"{leaf.dtype.name}{list(leaf.shape)}", _shown(leaf.sharding))
        count, size = lines.get(kind, (0, 0))
        lines[kind] = count + 1, size + here
    rows = [(*kind, f"{count} x" if count > 1 else "", _bytes(size)) for kind, (count, size) in lines.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    devices = next(iter(jax.tree.leaves(tree))).sharding.num_devices
    if devices == 1:
        said = [f"{part} {_bytes(all_)}" for part, (_, all_) in totals.items()]
        return "\n".join([*text, f"in all: {', '.join(said)}"])
    said = [f"{part} {_bytes(here)} of {_bytes(all_)}" for part, (here, all_) in totals.items()]
    return "\n".join([*text, f"on each of {devices} devices: {', '.join(said)}"])


def _shown(sharding):
    if sharding.num_devices == 1:
        return ""
    split = [[axis for axis in _axes(names) if sharding.mesh.shape[axis] > 1] for names in sharding.spec]
    return f"({', '.join('+'.join(axes) or '-' for axes in split)})" if any(split) else "replicated"


def _bytes(count):
    power = min(max(int(math.log2(max(count, 1)) // 10), 0), 4)
    return f"{count / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def place(batch, mesh, *, axis: int = 0):
    """A host batch on the devices: the leaves' `axis` split over the mesh's batch axes.

    On a single CPU device it is the batch itself: a compiled function takes host arrays as they are, which costs a
    fifth of what `device_put` does.
    """
    if mesh.size == 1 and mesh.devices.item().platform == "cpu":
        return batch
    for x in jax.tree.leaves(batch):
        check_batch(np.shape(x)[axis], mesh)
    return put(batch, placement(mesh, axis=axis))


def put(tree, shardings):
    """Host arrays on the devices. Each process of a job has the whole of them; nothing is sent or compared."""

    def one(x, sharding):
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        x = np.asarray(x, jax.dtypes.canonicalize_dtype(np.asarray(x).dtype))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: one(x, shardings), tree)
    return jax.tree.map(one, tree, shardings)


def on_device(tree):
    """A traced State with what lives in the host's memory brought to the device: XLA computes with nothing else. All
    other arrays are left alone.
    """

    def bring(path, x):
        return jax.device_put(x, jax.memory.Space.Device) if ON_HOST in path_name(path).split("/") else x

    return jax.tree.map_with_path(bring, tree)


def placement(mesh, *, axis: int = 0) -> NamedSharding:
    """Where a batch lives: its `axis` is split over the mesh's batch axes."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH_AXES))


def check_batch(size: int, mesh):
    """Raises UserError where a batch of `size` examples cannot be split over the mesh's batch axes."""
    count = math.prod(mesh.shape[name] for name in BATCH_AXES)
    if size % count:
        raise UserError(f"a batch of {size} examples cannot be split over {count} devices; take a multiple of {count}.")


def padded(batch, mesh):
    """An evaluation batch whose rows divide over the mesh: where it has a `mask`, rows like its first are added with
    mask 0.
    """
    count = math.prod(mesh.shape[name] for name in BATCH_AXES)
    if "mask" not in batch or not (more := -len(batch["mask"]) % count):
        return batch
    rows = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:1], more, axis=0)]), batch)
    return {**rows, "mask": np.concatenate([batch["mask"], np.zeros(more, np.float32)])}


def under(mesh, function):
    """`function`, traced with `mesh` as the mesh that `num_shards`, `constrain` and `jax.shard_map` see."""

    def traced(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def num_shards(*axes: str) -> int:
    """Into how many parts the mesh splits along these axes: 1 without a mesh, and inside a shard_map over them."""
    mesh = jax.sharding.get_abstract_mesh()
    return math.prod(mesh.shape[name] for name in axes if name in mesh.auto_axes)


def constrain(x, *spec):
    """`x`, with a hint to the partitioner that changes no value: its leading dimensions are split over these axes (a
    name, or a tuple of names), or gathered where the entry is None. Axes that do not divide a dimension are left out.
    """
    if num_shards(*AXES) == 1:
        return x
    entries = [PartitionSpec.UNCONSTRAINED] * x.ndim
    for dimension, names in enumerate(spec):
        split = tuple(name for name in _axes(names) if num_shards(name) > 1)
        if x.shape[dimension] % num_shards(*split) == 0:
            entries[dimension] = split or None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))
