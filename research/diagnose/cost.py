"""Estimate the memory of a step from its compiled program and its FLOPs from its jaxpr, before a run."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from research.distributed import sharding
from research.errors import UserError
from research.experiment import Built

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


class StepCost(NamedTuple):
    """The estimated cost of a step.

    `bytes`: memory per device, for each part of the state, the batch, all other memory of a step (`activations`) and
    the total. `flops`: matrix products and convolutions of one optimizer step on all devices, forward and backward.
    `collectives`: the number of each operation between devices in the compiled program.
    """

    kind: str
    devices: int
    parameters: int
    bytes: Mapping[str, int]
    flops: float
    collectives: Mapping[str, int]


def plan(built: Built) -> StepCost:
    """Compile the step of a built experiment for its mesh and return its StepCost. The devices need not exist."""
    state, stride = built.abstract, built.experiment.stride
    place = sharding.placement(built.mesh, axis=int(stride > 1))
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=place)
    batch = jax.tree.map(shape, jax.tree.map(np.asarray, built.source(built.seed)(0)))
    traced = built.step.trace(state, built.abstract_sums, batch)
    compiled = traced.lower().compile()
    memory = compiled.memory_analysis()
    parts = {name: getattr(state, name) for name in ("params", "opt", "stats")} | {"batch": batch}
    sizes = {name: sum(map(bytes_on_device, jax.tree.leaves(part))) for name, part in parts.items()}
    resident = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    # The TPU compiler reports 0 bytes of temporaries but includes them in the peak; the CPU compiler does the reverse.
    sizes["activations"] = max(memory.temp_size_in_bytes, memory.peak_memory_in_bytes - resident)
    sizes["total"] = resident + sizes["activations"]
    text, devices = compiled.as_text(), built.mesh.devices.flat
    counts = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return StepCost(
        kind=devices[0].device_kind,
        devices=len(devices),
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        bytes=sizes,
        flops=flops(traced.jaxpr.jaxpr) / stride,
        collectives={name: count for name, count in counts.items() if count},
    )


def described(found: StepCost) -> str:
    """Format a StepCost as lines of text."""
    mega = {name: f"{size / 2**20:,.1f} MiB" for name, size in found.bytes.items()}
    width = max(map(len, mega))
    lines = [
        f"{found.parameters:,} parameters; {found.flops:.3g} FLOPs per step on {found.devices} x {found.kind}",
        "memory per device:",
        *(f"  {name:<{width}}  {size:>14}" for name, size in mega.items()),
        "between devices: " + (", ".join(f"{n} {name}" for name, n in found.collectives.items()) or "nothing"),
    ]
    return "\n".join(lines)


def topology_devices(name: str):
    """Return the devices of a TPU slice, such as `v5e:4x4`, to compile for without having them.

    Raises UserError if the TPU compiler is not installed or does not know the name.
    """
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(name, "tpu").devices
    except Exception as error:  # RuntimeError, NotImplementedError or JaxRuntimeError, depending on the cause
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise UserError(
            f"cannot compile for the topology {name!r}: {reason}. Expected a name such as v5e:2x2 or v5p:2x2x1; to "
            "install the compiler: pip install -e '.[tpu]' in the project's folder."
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
        times = math.prod(params["mesh"].shape.values())
    return times * sum(inner)


def _programs(value):
    """The jaxprs in a parameter of an equation."""
    if isinstance(value, tuple | list):
        return [sub for entry in value for sub in _programs(entry)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []
