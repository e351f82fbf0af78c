"""The placement of arrays: a mesh of named axes, and rules that map path patterns to a PartitionSpec or a tactic.

    mesh  = {"data": -1, "tensor": 2}                              # other axes have size 1
    rules = ((r"up/kernel$", P(None, "tensor")), (r".", fsdp()))   # leaves that match no rule are replicated

The first matching rule applies. The train step is the same on every mesh: XLA's partitioner derives the communication
from the shardings of its arguments.
"""

import math
import re
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError, unknown
from research.tree import path_name

# From the slowest network to the fastest: stages of layers, replicas, shards of params, experts, parts of a sequence,
# parts of a matrix.
AXES = ("pipeline", "data", "fsdp", "expert", "context", "tensor")
BATCH_AXES = ("data", "fsdp", "expert")  # the axes over which a batch is split
ON_HOST = "on_host"  # arrays with this name in their path are stored in host memory
STACKED = "stacked"  # arrays with this name in their path have a leading axis of layers

FROZEN = "frozen"  # the entry of stats that holds params that are not trained

Tactic = Callable[[str, tuple[int, ...], Mesh], PartitionSpec]


def make_mesh(axes, *, devices=None) -> Mesh:
    """Return a Mesh with all six AXES from {axis: size}.

    Missing axes have size 1. One size may be -1: that axis gets all remaining devices. Raises UserError for an unknown
    axis, and if the product of the sizes is not the number of devices.
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
        raise UserError(
            f"a mesh of {dict(axes)} does not fit {len(devices)} devices; expected sizes whose product is "
            f"{len(devices)}, or -1 for one of them. The nearest is {_nearest_mesh(axes, len(devices))}."
        )
    kinds = (AxisType.Auto,) * len(sizes)
    try:
        return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=kinds, devices=devices)
    except NotImplementedError:  # the sizes are no products of the torus's own, such as 8 x 8 on one of 4 x 4 x 4
        grid = mesh_utils.create_device_mesh(tuple(sizes.values()), devices, allow_split_physical_axes=True)
        return Mesh(grid, AXES, axis_types=kinds)


def _nearest_mesh(axes, devices):
    """The mesh with these axes whose sizes are nearest to the given ones, for a number of devices."""
    sizes, rest = {}, devices
    for name, size in axes.items():
        if size != -1:
            divisors = [d for d in range(1, rest + 1) if rest % d == 0]
            sizes[name] = min(divisors, key=lambda d, size=size: (abs(d - size), d))
            rest //= sizes[name]
    free = next((name for name, size in axes.items() if size == -1), "data")
    return {name: sizes.get(name, 1) * (rest if name == free else 1) for name in {**axes, **{free: 1}}}


def fsdp(*base, min_size: int = 2**14) -> Tactic:
    """Return a tactic that splits the largest dimension that is divisible by the size of the axis "fsdp".

    Of equally large dimensions it splits the last. Arrays with fewer than `min_size` entries are not split, because
    gathering a bias costs more than storing it. `base` contains the first entries of the PartitionSpec:
    `fsdp(None, "tensor")` reserves the second dimension for "tensor".
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
    """Return a NamedSharding for every leaf, from the first rule whose pattern is found in its path.

    A path is like `params/encoder/kernel`. A rule is (pattern, PartitionSpec) or (pattern, tactic); a tactic is a
    function (path, shape, mesh) -> PartitionSpec. Leaves that match no rule are replicated.

    Rules apply to params, and to the frozen ones in `stats/frozen` as if they were in `params`. A leaf of `opt` or
    `stats` with the shape of a param, whose path ends with the path of that param (a moment, an average), has the
    sharding of the param. For other leaves, write patterns that begin with `opt/` or `stats/`; they have priority. If a
    path contains the name `stacked`, its spec describes one layer, and the leading axis of layers is split over
    "pipeline".

    Raises UserError for a pattern that matches no path, and for a spec that names an unknown axis, uses an axis twice,
    has more entries than the leaf has dimensions, or splits a dimension into parts that do not divide it.
    """
    unused = {pattern for pattern, _ in rules}
    params = {}

    def sharding(path, leaf):
        name = re.sub(rf"^stats/{FROZEN}/", "params/", path_name(path))
        part, _, rest = name.partition("/")
        aside = part if part in ("opt", "stats") else None
        spec = _spec_of_param(rest, leaf, params) if aside else None
        for pattern, rule in rules:
            if re.search(pattern, name) and (not aside or pattern.lstrip("^").startswith(f"{aside}/")):
                unused.discard(pattern)
                spec = _checked_spec(name, leaf, mesh, rule, f"the rule {pattern!r}")
                break
        if spec is None:
            spec = _checked_spec(name, leaf, mesh, PartitionSpec(), "the default")
        if part == "params":
            params[rest] = (leaf.shape, spec)
        return NamedSharding(mesh, spec, memory_kind="pinned_host" if ON_HOST in name.split("/") else None)

    result = jax.tree.map_with_path(sharding, tree)
    if unused:
        paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(tree)]
        raise UserError(f"sharding rules match no path: {sorted(unused)}; the first paths are {paths[:8]}.")
    return result


def with_shardings(tree, shardings):
    """Return the shapes and dtypes of a tree, with the shardings of another one."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def _spec_of_param(name, leaf, params):
    """The spec of the param with the longest path that `name` ends with; None without one, or if its shape differs."""
    parts = name.split("/")
    for suffix in ("/".join(parts[start:]) for start in range(len(parts))):
        if suffix in params:
            shape, spec = params[suffix]
            return spec if shape == leaf.shape else None
    return None


def _checked_spec(name, leaf, mesh, rule, origin):
    """The PartitionSpec of a leaf from a rule. `origin` names the rule in errors."""
    stacked = STACKED in name.split("/")
    shape = leaf.shape[1:] if stacked else leaf.shape
    if not isinstance(rule, PartitionSpec) and not callable(rule):
        raise UserError(f"{origin} has {rule!r}; expected a PartitionSpec or a tactic(path, shape, mesh).")
    spec = rule if isinstance(rule, PartitionSpec) else rule(name, shape, mesh)
    if stacked:
        shape, spec = leaf.shape, PartitionSpec("pipeline" if mesh.shape["pipeline"] > 1 else None, *spec)
    if len(spec) > len(shape):
        raise UserError(
            f"{origin} assigns {name} {list(shape)} the spec {spec}; expected at most {len(shape)} dimensions."
        )
    used = [axis for names in spec for axis in _axes(names)]
    for axis in used:
        if axis not in mesh.shape:
            raise unknown(f"mesh axis in {origin}", axis, mesh.axis_names)
        if used.count(axis) > 1:
            raise UserError(f"{origin} assigns {name} the spec {spec}, which uses {axis!r} twice; use it once.")
    for dimension, names in enumerate(spec):
        count = math.prod(mesh.shape[axis] for axis in _axes(names))
        if shape[dimension] % count:
            raise UserError(
                f"{origin} splits dimension {dimension} of {name} {list(shape)} into {count} parts over {names!r}, "
                f"but {count} does not divide {shape[dimension]}."
            )
    return spec


def _axes(names) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def table(tree) -> str:
    """Format the placement of a State whose leaves have a shape, a dtype and a sharding.

    Params have one line each; layers that differ only in a number in their path share a line. Leaves of `opt` and
    `stats` are listed only if their sharding differs from that of their param. The last line has the totals, in bytes.
    """
    lines, totals, params = {}, {}, {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name, spec = path_name(path), leaf.sharding.spec
        part, _, rest = name.partition("/")
        shapes = leaf.sharding.shard_shape(leaf.shape), leaf.shape
        local, entire = (math.prod(shape) * leaf.dtype.itemsize for shape in shapes)
        if rest:
            total = totals.setdefault(part, [0, 0])
            total[:] = total[0] + local, total[1] + entire
        if part == "params":
            params[rest] = (leaf.shape, spec)
        elif not leaf.shape or _spec_of_param(rest, leaf, params) == spec:
            continue
        kind = (re.sub(r"(?<=/)\d+(?=/)", "*", name), f"{leaf.dtype.name}{list(leaf.shape)}", _axes_text(leaf.sharding))
        _, count, size = lines.get(kind, ("", 0, 0))
        lines[kind] = name, count + 1, size + local
    rows = [
        (kind[0] if count > 1 else name, *kind[1:], f"{count} x" if count > 1 else "", _bytes(size))
        for kind, (name, count, size) in lines.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    devices = next(iter(jax.tree.leaves(tree))).sharding.num_devices
    if devices == 1:
        sizes = [f"{part} {_bytes(entire)}" for part, (_, entire) in totals.items()]
        return "\n".join([*text, f"total: {', '.join(sizes)}"])
    sizes = [f"{part} {_bytes(local)} of {_bytes(entire)}" for part, (local, entire) in totals.items()]
    return "\n".join([*text, f"on each of {devices} devices: {', '.join(sizes)}"])


def _axes_text(sharding):
    if sharding.num_devices == 1:
        return ""
    split = [[axis for axis in _axes(names) if sharding.mesh.shape[axis] > 1] for names in sharding.spec]
    return f"({', '.join('+'.join(axes) or '-' for axes in split)})" if any(split) else "replicated"


def _bytes(count):
    power = min(max(int(math.log2(max(count, 1)) // 10), 0), 4)
    return f"{count / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def place(batch, mesh, *, axis: int = 0):
    """Put a host batch on the devices, with `axis` of every leaf split over the batch axes of the mesh.

    On a single CPU device, return the batch itself: a compiled function accepts host arrays at a fifth of the cost of
    `device_put`. Raises UserError if the batch cannot be split evenly.
    """
    if mesh.size == 1 and mesh.devices.item().platform == "cpu":
        return batch
    for x in jax.tree.leaves(batch):
        check_batch(np.shape(x)[axis], mesh)
    return put(batch, placement(mesh, axis=axis))


def put(tree, shardings):
    """Put host arrays on the devices, by one NamedSharding or a tree of them.

    Every process of a job must have the complete arrays. Nothing is sent between processes or compared.
    """

    def one(x, sharding):
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        x = np.asarray(x, jax.dtypes.canonicalize_dtype(np.asarray(x).dtype))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: one(x, shardings), tree)
    return jax.tree.map(one, tree, shardings)


def on_device(tree):
    """Move the arrays of a traced State from host memory to the device, because XLA computes only on device memory.

    Only arrays with `on_host` in their path are moved.
    """

    def bring(path, x):
        return jax.device_put(x, jax.memory.Space.Device) if ON_HOST in path_name(path).split("/") else x

    return jax.tree.map_with_path(bring, tree)


def placement(mesh, *, axis: int = 0) -> NamedSharding:
    """Return the sharding of a batch: its `axis` is split over the batch axes of the mesh."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH_AXES))


def check_batch(size: int, mesh):
    """Raise UserError if a batch of `size` examples cannot be split evenly over the batch axes of the mesh."""
    count = math.prod(mesh.shape[name] for name in BATCH_AXES)
    if size % count:
        below, above = size // count * count, -(-size // count) * count
        sizes = f"{below} or {above}" if below else f"{above}"
        parts = {name: mesh.shape[name] for name in BATCH_AXES if mesh.shape[name] > 1}
        raise UserError(
            f"a batch of {size} examples cannot be split over {count} devices, the mesh's {parts}; use {sizes} "
            f"examples, or a mesh that splits a batch into {math.gcd(size, count)} parts."
        )


def padded(batch, mesh):
    """Pad an evaluation batch to a multiple of the number of parts into which the mesh splits a batch.

    The added rows are copies of the first row with mask 0. A batch without a `mask` is returned unchanged.
    """
    count = math.prod(mesh.shape[name] for name in BATCH_AXES)
    if "mask" not in batch or not (more := -len(batch["mask"]) % count):
        return batch
    rows = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:1], more, axis=0)]), batch)
    return {**rows, "mask": np.concatenate([batch["mask"], np.zeros(more, np.float32)])}


def under(mesh, function):
    """Wrap a function to be traced under `mesh`, for `num_shards`, `constrain` and `jax.shard_map`."""

    def traced(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def num_shards(*axes: str) -> int:
    """Return the number of parts into which the current mesh splits an array along these axes.

    The result is 1 without a mesh, and inside a `shard_map` over these axes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return math.prod(mesh.shape[name] for name in axes if name in mesh.auto_axes)


def constrain(x, *spec):
    """Return `x` with a hint to the partitioner; no value changes.

    `spec` has one entry per leading dimension: an axis, or a tuple of axes, to split the dimension over, or None to
    gather it. A dimension that its axes do not divide stays unconstrained.
    """
    if num_shards(*AXES) == 1:
        return x
    entries = [PartitionSpec.UNCONSTRAINED] * x.ndim
    for dimension, names in enumerate(spec):
        split = tuple(name for name in _axes(names) if num_shards(name) > 1)
        if x.shape[dimension] % num_shards(*split) == 0:
            entries[dimension] = split or None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))
