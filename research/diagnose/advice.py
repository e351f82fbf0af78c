"""Which mesh an experiment should use on given devices, and the largest batch that fits, by compiling its step."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax

from research.diagnose.before import memory_of
from research.diagnose.cost import StepCost, TooLarge, plan
from research.diagnose.roofline import CHIPS, roofline
from research.distributed.sharding import BATCH_AXES
from research.errors import UserError, unknown
from research.experiment import Built, Experiment, build

PARTS = (2, 4, 8)  # devices over which "tensor" and "pipeline" split a model: more are rarely within a fast network


class Choice(NamedTuple):
    """A mesh, the StepCost on it (None if there is none) and its least `seconds` a step, or the `reason` against it.

    `needed`: bytes of memory per device, None if unknown.
    """

    mesh: Mapping[str, int]
    cost: StepCost | None
    seconds: float
    needed: float | None
    reason: str


def advise(experiment: Experiment, *, devices) -> list[Choice]:
    """Compile an experiment for the meshes that its rules allow on these devices; return Choices, the best first.

    The best fits into memory and has the least time by the roofline (`research.diagnose.roofline`). Raises UserError
    for devices whose limits are unknown, and if no mesh fits, with the mesh that needs the least and the number of
    devices on which it would fit.
    """
    kind = devices[0].device_kind
    if kind not in CHIPS:
        raise unknown("kind of device for the roofline", kind, CHIPS)
    choices = [_choice(experiment, mesh, devices) for mesh in meshes(len(devices))]
    choices.sort(key=lambda choice: (bool(choice.reason), choice.seconds))
    if choices[0].reason:
        raise UserError(_none_fits(choices, kind, len(devices)))
    return choices


def meshes(devices: int) -> list[dict[str, int]]:
    """The candidates: data, FSDP, and tensor or pipeline parallelism over a few devices; the rest is FSDP or data."""
    found = [{"data": devices}, {"fsdp": devices}]
    for part in (p for p in PARTS if devices % p == 0):
        found += [{"tensor": part, "fsdp": devices // part}, {"pipeline": part, "data": devices // part}]
    return found if devices > 1 else found[:1]


def _choice(experiment, mesh, devices) -> Choice:
    """Compile the step for a mesh; return its Choice, with the reason if the mesh cannot be used."""
    try:
        built = build(dataclasses.replace(experiment, mesh=mesh), devices=devices)
        used = {name for x in jax.tree.leaves(built.abstract.params) for name in _names(x.sharding.spec)}
        if unused := [axis for axis, size in mesh.items() if size > 1 and axis != "data" and axis not in used]:
            return Choice(mesh, None, math.inf, None, f"no array is split over {unused[0]}")
        cost = plan(built)
    except TooLarge as error:
        return Choice(mesh, None, math.inf, error.needed, str(error))
    except UserError as error:
        return Choice(mesh, None, math.inf, None, str(error))
    seconds, available = roofline(cost.executed, CHIPS[cost.kind]).seconds, CHIPS[cost.kind].memory
    reason = "" if cost.bytes["total"] <= available else "it does not fit into memory"
    return Choice(mesh, cost, seconds, cost.bytes["total"], reason)


def _names(spec):
    return [name for entry in spec if entry for name in ([entry] if isinstance(entry, str) else entry)]


def _none_fits(choices, kind, devices) -> str:
    measured = [choice for choice in choices if choice.needed]
    if not measured:
        reasons = "; ".join(f"{dict(choice.mesh)}: {choice.reason}" for choice in choices)
        return f"the experiment runs on no mesh of {devices} x {kind}: {reasons}"
    least = min(measured, key=lambda choice: choice.needed)
    times = 2 ** math.ceil(math.log2(least.needed / CHIPS[kind].memory))
    return (
        f"the step fits on no mesh of {devices} x {kind}, which have {CHIPS[kind].memory / 2**30:.0f} GiB each. "
        f"{dict(least.mesh)} needs the least, {least.needed / 2**30:.1f} GiB. Try {max(2, times) * devices} devices "
        "with FSDP, or a smaller batch, or recompute layers: Stack(remat=)."
    )


def described(choices: list[Choice]) -> str:
    """Format the Choices of `advise` as lines of text, with the advice last."""
    lines = []
    for choice in choices:
        size = f"{choice.needed / 2**30:8.3g} GiB" if choice.needed else " " * 12
        time = f"{1e3 * choice.seconds:9.4g} ms" if choice.cost else " " * 12
        lines.append(f"  {size}  {time}  {_shown(choice.mesh)}" + (f": {choice.reason}" if choice.reason else ""))
    best = choices[0]
    limit = roofline(best.cost.executed, CHIPS[best.cost.kind]).limit
    lines.append(f"advice: mesh={_shown(best.mesh)}; {limit} limits the step")
    return "\n".join(["memory per device and least time per step:", *lines])


def _shown(mesh) -> str:
    return str({axis: size for axis, size in mesh.items() if size > 1} or {"data": 1})


def largest_batch(built: Built, *, memory: float | None = None, options: Mapping | None = None) -> int:
    """Return the number of examples in the largest batch whose step fits into `memory` bytes per device.

    It is a multiple of the number of parts into which the mesh splits a batch; in a pipeline, of the experiment's own
    batch size, which its microbatches divide. The size is found by compiling: the returned batch fits, and the next
    multiple does not. `memory` is by default that of the devices; `options` are passed to the compiler. Raises
    UserError if not even the smallest batch fits.
    """
    device = built.mesh.devices.flat[0]
    limit = memory or (CHIPS[device.device_kind].memory if device.device_kind in CHIPS else memory_of(device))
    parts = math.prod(built.mesh.shape[axis] for axis in BATCH_AXES)
    unit = parts if built.mesh.shape["pipeline"] == 1 else built.experiment.source.size

    @functools.cache
    def needed(count) -> float:
        try:
            return plan(built, batch_size=count * unit, options=options).bytes["total"]
        except TooLarge as error:
            return max(error.needed or math.inf, limit + 1)

    if needed(1) > limit:
        raise UserError(
            f"a batch of {unit} examples does not fit: the step needs {needed(1) / 2**30:.1f} GiB per device, and "
            f"{limit / 2**30:.1f} GiB are there. Use more devices, or split the state over them (FSDP)."
        )
    # Memory grows almost linearly, and the line through two sizes predicts the largest; the bounds are compiled.
    fits, fails, guess = 1, math.inf, 2
    while fails - fits > 1:
        fits, fails = (guess, fails) if needed(guess) <= limit else (fits, guess)
        slope = (needed(fits) - needed(1)) / max(1, fits - 1)
        ahead = int((limit - needed(fits)) / slope) if slope > 0 else fits
        guess = fits + max(1, ahead)
        if fails < math.inf:
            guess = max(min(guess, fails - 1), (fits + fails) // 2)
    return fits * unit
