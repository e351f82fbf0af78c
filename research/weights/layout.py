"""The layout of a public checkpoint: a table from our names to its names, which import and export both follow.

    table = {"embed": "wte", "head/kernel": At("proj", axes=(0, 1)), "blocks/0/attention/q": At("h.0.qkv", part=0)}

Import and export both walk over our arrays, thus a table is never inverted. A key is the path of one of our modules, or
of one array; the entry of an array comes first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from research.distributed.sharding import STACKED
from research.errors import UserError, nearest

# The names of the arrays of a module, in PyTorch.
ARRAYS = {
    "kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias", "mean": "running_mean",
    "var": "running_var",
}  # fmt: skip
NOTHING = r"(?!)"  # matches no name


class At(NamedTuple):
    """The place of a module, or of an array, in a public checkpoint.

    theirs = ours.reshape(split).transpose(axes).reshape(shape). By default a kernel [..., in, out] becomes
    [out, in, ...], and other arrays are unchanged. `...` in `shape` stands for the transposed shape. The three options
    apply to the kernel of a module, or to the one array.

    Arrays with the same `name` are parts of one array of theirs, joined along its axis `along` in the order of `part`.
    The parts may differ in size. Several names are summands of ours: export writes ours to the first, and zeros to the
    others.
    """

    name: str | tuple[str, ...]
    axes: tuple[int, ...] | None = None
    split: tuple[int, ...] | None = None
    shape: tuple | None = None
    part: int = 0
    along: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of one architecture in the files of one library.

    table     {our module or array: the name of theirs, or an At}
    config    the content of config.json; {} for none
    prefix    the first part of all names but the heads', which files of the bare network lack, such as "bert."
    tied      {name: name}: theirs that are copies of others; they may be absent, and are not written
    constants {name: array}: theirs that have no counterpart here; export writes them
    ignored   a regular expression of names that have no counterpart here, such as constants
    aliases   {regular expression: replacement}: names in older files
    """

    table: Mapping[str, str | At]
    config: Mapping[str, Any]
    prefix: str = ""
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    ignored: str = NOTHING
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Slot(NamedTuple):
    """One of our arrays, or one layer of a stacked one, with its place in their checkpoint.

    `path` is the path of our array, `layer` the index in its leading axis if it is stacked. `shape` is our shape
    without that axis.
    """

    path: str
    layer: int | None
    shape: tuple[int, ...]
    at: At

    @property
    def split(self) -> tuple[int, ...]:
        return self.at.split or self.shape

    @property
    def axes(self) -> tuple[int, ...]:
        return self.at.axes or tuple(range(len(self.split)))

    @property
    def their_shape(self) -> tuple[int, ...]:
        transposed = tuple(self.split[axis] for axis in self.axes)
        if self.at.shape is None:
            return transposed
        start = self.at.shape.index(...) if ... in self.at.shape else None
        return self.at.shape if start is None else (*self.at.shape[:start], *transposed, *self.at.shape[start + 1 :])

    def to_theirs(self, ours: np.ndarray) -> np.ndarray:
        """Return our array in their order and shape."""
        return ours.reshape(self.split).transpose(self.axes).reshape(self.their_shape)

    def to_ours(self, theirs: np.ndarray) -> np.ndarray:
        """Return their array (this part of it) in our order and shape: a view, if NumPy can make one."""
        transposed = theirs.reshape([self.split[axis] for axis in self.axes])
        return transposed.transpose(np.argsort(self.axes)).reshape(self.shape)


class Group(NamedTuple):
    """Their array of the shape `shape` (or several, which are summands), and the slots that it joins, in order."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    slots: tuple[Slot, ...]

    def region(self, slot: Slot) -> tuple[slice, ...]:
        """Return the index of a slot's part in their array."""
        axis = slot.at.along % len(self.shape)
        sizes = [other.their_shape[axis] for other in self.slots]
        start = sum(sizes[: self.slots.index(slot)])
        return (*(slice(None),) * axis, slice(start, start + slot.their_shape[axis]))


def slots_of(path: str, shape: tuple[int, ...], table: Mapping[str, str | At]) -> list[Slot]:
    """Return the slots of one of our arrays: one, or one per layer of a stacked array.

    Raises UserError if the table has no entry for it, or if the entry does not fit its shape.
    """
    if STACKED not in path.split("/"):
        return [_checked(Slot(path, None, shape, place(path, table)))]
    names = [path.replace(f"{STACKED}/", f"{layer}/", 1) for layer in range(shape[0])]
    return [_checked(Slot(path, layer, shape[1:], place(name, table))) for layer, name in enumerate(names)]


def has_place(path: str, table: Mapping[str, str | At]) -> bool:
    """Return whether the table has an entry for an array; not for those that a wrapper such as `lora` adds."""
    path = path.replace(f"{STACKED}/", "0/", 1)
    module, _, array = path.rpartition("/")
    return path in table or (module in table and array in ARRAYS)


def place(path: str, table: Mapping[str, str | At]) -> At:
    """Return the At of an array. Raises UserError if the table has no entry for it or its module."""
    module, _, array = path.rpartition("/")
    at = table.get(path, table.get(module))
    if at is None:
        raise UserError(f"the layout has no name for {path}.{nearest(module or path, table)}")
    at = at if isinstance(at, At) else At(at)
    if path not in table:
        if array not in ARRAYS:
            raise UserError(f"the layout has no name for {path}.{nearest(array, ARRAYS)} Add an entry for this array.")
        names = (at.name,) if isinstance(at.name, str) else at.name
        names = tuple(f"{name}.{ARRAYS[array]}" for name in names)
        at = at._replace(name=names) if array == "kernel" else At(names, part=at.part, along=at.along)
    return at._replace(name=(at.name,)) if isinstance(at.name, str) else at


def groups_of(slots: list[Slot]) -> list[Group]:
    """Join the slots that are parts of the same array of theirs. Raises UserError for a table that is inconsistent."""
    found: dict[tuple[str, ...], list[Slot]] = {}
    for slot in slots:
        found.setdefault(slot.at.name, []).append(slot)
    groups = []
    for names, parts in found.items():
        parts = sorted(parts, key=lambda slot: slot.at.part)
        if [slot.at.part for slot in parts] != list(range(len(parts))):
            paths = ", ".join(f"{slot.path} is part {slot.at.part}" for slot in parts)
            raise UserError(f"the layout joins arrays into {names[0]}, but {paths}; expected the parts 0, 1, ...")
        shape, axis = list(parts[0].their_shape), parts[0].at.along
        if len(parts) > 1:
            shape[axis] = sum(slot.their_shape[axis] for slot in parts)
        groups.append(Group(names, tuple(shape), tuple(parts)))
    return groups


def _checked(slot: Slot) -> Slot:
    """Give kernels their default axes, and check that the entry fits the shape."""
    rank = len(slot.split)
    if slot.at.axes is None and slot.at.split is None and slot.path.endswith("kernel") and rank > 1:
        slot = slot._replace(at=slot.at._replace(axes=(rank - 1, rank - 2, *range(rank - 2))))
    sizes = {math.prod(slot.shape), math.prod(slot.split), math.prod(slot.their_shape)}
    if len(sizes) > 1 or sorted(slot.axes) != list(range(rank)):
        raise UserError(f"the layout does not fit {slot.path}: {slot.at} cannot transform the shape {slot.shape}.")
    return slot
