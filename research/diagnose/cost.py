"""Estimate the memory of a step, what a device executes and its FLOPs from the compiled program, before a run."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from research.diagnose.hlo import Executed, executed
from research.diagnose.roofline import CHIPS, roofline
from research.distributed import sharding
from research.errors import UserError, unknown
from research.experiment import Built

# The slices that exist, by number of chips: https://cloud.google.com/tpu/docs/v5e, v5p and v6e (November 2026).
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16")
SLICES = {"v5e": FLAT, "v5p": CUBES, "v6e": FLAT}


class TooLarge(UserError):
    """The step does not fit into the memory of a device; `needed` is its size in bytes, None if unknown."""

    def __init__(self, message: str, *, needed: float | None):
        super().__init__(message)
        self.needed = needed


class StepCost(NamedTuple):
    """The estimated cost of a step.

    `bytes`: memory per device, for each part of the state, the batch, all other memory of a step (`activations`) and
    the total. `flops`: matrix products and convolutions of one optimizer step on all devices, forward and backward,
    recomputation included. `executed`: what one device executes in an optimizer step of the compiled program.
    """

    kind: str
    devices: int
    parameters: int
    bytes: Mapping[str, int]
    flops: float
    executed: Executed


def plan(built: Built, *, batch_size: int | None = None, options: Mapping | None = None) -> StepCost:
    """Compile the step of a built experiment for its mesh and return its StepCost. The devices need not exist.

    `batch_size` replaces the number of examples in a batch. `options` are passed to the compiler. Raises TooLarge if
    the compiler finds that the step does not fit into the memory of a device.
    """
    state, stride = built.abstract, built.experiment.stride
    place = sharding.placement(built.mesh, axis=int(stride > 1))
    size = batch_size or built.experiment.source.size
    sharding.check_batch(size, built.mesh)

    def shape(x):
        entire = (*x.shape[: int(stride > 1)], size, *x.shape[1 + int(stride > 1) :])
        return jax.ShapeDtypeStruct(entire, jax.dtypes.canonicalize_dtype(x.dtype), sharding=place)

    batch = jax.tree.map(shape, jax.tree.map(np.asarray, built.source(built.seed)(0)))
    traced = built.step.on_leaves.trace(jax.tree.leaves((state, built.abstract_sums)), batch)
    try:
        compiled = traced.lower().compile(compiler_options=dict(options or {}))
    except jax.errors.JaxRuntimeError as error:
        raise _too_large(error, built, size) from error
    memory = compiled.memory_analysis()
    parts = {name: getattr(state, name) for name in ("params", "opt", "stats")} | {"batch": batch}
    sizes = {name: sum(map(bytes_on_device, jax.tree.leaves(part))) for name, part in parts.items()}
    resident = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    # The TPU compiler reports 0 bytes of temporaries but includes them in the peak; the CPU compiler does the reverse.
    sizes["activations"] = max(memory.temp_size_in_bytes, memory.peak_memory_in_bytes - resident)
    sizes["total"] = resident + sizes["activations"]
    devices = built.mesh.devices.flat
    counted = executed(compiled.as_text(), devices=len(devices))
    transfers = {k: t._replace(number=t.number / stride, bytes=t.bytes / stride) for k, t in counted.transfers.items()}
    return StepCost(
        kind=devices[0].device_kind,
        devices=len(devices),
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        bytes=sizes,
        flops=flops(traced.jaxpr.jaxpr) / stride,
        executed=Executed(counted.flops / stride, counted.bytes / stride, transfers),
    )


# The messages of the TPU's compiler: with the memory that the step needs, and that there is.
EXCEEDED = re.compile(
    r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm|\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)"
)


def _too_large(error, built, size):
    """The TooLarge of a compiler's message; other errors of the compiler are raised."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    kind, needed, numbers = built.mesh.devices.flat[0].device_kind, None, ""
    if found := EXCEEDED.search(str(error)):
        needed, available = (_size(text) for text in found.groups() if text)
        numbers = f": it needs {needed / 2**30:.1f} GiB or more, and {available / 2**30:.1f} GiB are there"
    advice = "Use more devices or a smaller batch; `plan --advise` compares meshes."
    return TooLarge(
        f"a step of {size} examples does not fit into the memory of a {kind}{numbers}. {advice}", needed=needed
    )


def _size(text) -> float:
    """The bytes of a text such as 15.75G."""
    return float(text.rstrip("KMGT")) * 1024 ** " KMGT".index(text[-1] if text[-1] in "KMGT" else " ")


def described(found: StepCost) -> str:
    """Format a StepCost as lines of text."""
    mega = {name: f"{size / 2**20:,.1f} MiB" for name, size in found.bytes.items()}
    width = max(map(len, mega))
    lines = [
        f"{found.parameters:,} parameters; {found.flops:.3g} FLOPs per step on {found.devices} x {found.kind}",
        "memory per device:",
        *(f"  {name:<{width}}  {size:>14}" for name, size in mega.items()),
        "between devices: " + (", ".join(_transfer(*item) for item in found.executed.transfers.items()) or "nothing"),
    ]
    if found.kind in CHIPS:
        bound = roofline(found.executed, CHIPS[found.kind])
        share = found.flops / found.devices / CHIPS[found.kind].flops / bound.seconds
        lines.append(
            f"roofline: at least {1e3 * bound.seconds:.3g} ms per step, limited by {bound.limit} (compute "
            f"{1e3 * bound.compute:.3g} ms, memory {1e3 * bound.memory:.3g} ms, network {1e3 * bound.network:.3g} ms): "
            f"{share:.0%} of peak"
        )
    return "\n".join(lines)


def _transfer(name, transfer) -> str:
    return f"{transfer.number:.0f} {name} ({transfer.bytes / 2**20:,.1f} MiB sent)"


def topology_devices(name: str):
    """Return the devices of a TPU slice, such as `v5e:4x4`, to compile for without having them.

    Raises UserError if there is no such slice, with the nearest one, and if the TPU compiler is not installed.
    """
    from jax.experimental import topologies

    generation, _, shape = name.partition(":")
    if generation not in SLICES:
        raise unknown("TPU generation", generation, SLICES)
    chips = [int(x) for x in re.findall(r"\d+", shape)]
    if shape not in SLICES[generation]:
        far = lambda valid: abs(math.log(math.prod(map(int, valid.split("x"))) / max(1, math.prod(chips or [1]))))
        raise UserError(
            f"unknown topology {name!r}; the nearest is {generation}:{min(SLICES[generation], key=far)}. Valid: "
            f"{', '.join(f'{generation}:{valid}' for valid in SLICES[generation])}."
        )
    try:
        return topologies.get_topology_desc(name, "tpu").devices
    except Exception as error:  # RuntimeError, NotImplementedError or JaxRuntimeError, depending on the cause
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise UserError(
            f"cannot compile for the topology {name!r}: {reason}. To install the compiler: pip install -e '.[tpu]' in "
            "the project's folder."
        ) from error


def bytes_on_device(x) -> int:
    """Return the bytes of an array (or abstract array) on each device that stores a part of it."""
    return math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize


def flops(jaxpr) -> float:
    """Count 2 x the multiplications of every matrix product and convolution in a jaxpr.

    The body of a `scan` counts once per iteration; XLA's own count includes it only once. The length of a `while` is
    unknown, so its body counts once. Of the branches of a `cond`, the most expensive counts.
    """
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel, spec = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        # Dilation in the backward pass of a strided convolution inserts zeros, which cost nothing. Padding is counted.
        dilation = math.prod(params["lhs_dilation"])
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / kernel[spec[0]] / dilation
    inner = [flops(sub) for value in params.values() for sub in _programs(value)]
    if name == "cond":
        return max(inner, default=0.0)
    times = params["length"] if name == "scan" else 1
    if name == "shard_map":
        # Inside, shapes are those of one device along these axes, and those of all devices along the others.
        times = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    return times * sum(inner)


def _programs(value):
    """The jaxprs in a parameter of an equation."""
    if isinstance(value, tuple | list):
        return [sub for entry in value for sub in _programs(entry)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []
