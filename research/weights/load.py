"""Starting an experiment from the weights of a public checkpoint."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import UserError, format_names, nearest
from research.weights.files import Stored
from research.weights.folders import read_checkpoint
from research.weights.layout import NOTHING, Group, Layout, Slot, groups_of, has_place, slots_of
from research.wrappers.frozen import named_arrays, with_arrays

PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel, and of torch.compile


class Matched(NamedTuple):
    """How our arrays correspond to those of a checkpoint, before any data are read.

    `loaded` is {our path: its (Slot, Group) pairs, one per layer}. `fresh` lists our arrays that keep their initial
    values, and `unused` {their name: reason} what is in the checkpoint only.
    """

    loaded: dict[str, list[tuple[Slot, Group]]]
    fresh: list[str]
    unused: dict[str, str]


def weights(
    source, layout: Layout, *, inside: str = "", skip: str = NOTHING, drop: str = NOTHING, cast: bool = False,
    tell: Callable = print,
) -> Callable:  # fmt: skip
    """Return an `init_from` for an Experiment that takes the weights of a public checkpoint.

    `source` is a file, a folder, or the name of a repository in the local cache of the Hugging Face Hub; see
    `research.weights.folders`. `layout` comes from the architecture's file, such as `gpt.transformers(**arguments)`.
    `inside` is the path of the network among the params, if it is a part of a larger one, such as "encoder".

    Every array of the network must be in the checkpoint, and every array of the checkpoint must be used. `skip` (a
    regular expression, searched in our paths, such as r"^head/" or r"lora_[ab]$") names arrays that keep their initial
    values, and `drop` (searched in their names) arrays of the checkpoint that are not wanted. With `cast`, numbers of
    another floating-point type are converted; otherwise another type is an error.

    The returned function maps (params, stats) of shapes, or of arrays, to the same trees with the arrays in their
    place. It reads one array at a time, and only the parts that this process holds. `tell` receives a table. If an
    error occurs, nothing is changed. Raises UserError if arrays are missing, left over, of another shape or type, or
    not finite; the function also raises the errors of `read_checkpoint`.
    """

    def start(params, stats):
        targets = {}
        for name, x in named_arrays(params, stats).items():
            path = name.removeprefix("stats/model/")
            if path.startswith(f"{inside}/" if inside else "") and not path.startswith("stats/"):
                targets[path[len(inside) + 1 :] if inside else path] = (name, x)
        like = {path: x for path, (_, x) in targets.items()}
        there = canonical(read_checkpoint(source), layout)
        found = match(like, layout, there, skip=skip, drop=drop, cast=cast)
        arrays = {targets[path][0]: _load(like[path], pairs, there) for path, pairs in found.loaded.items()}
        tell(format_matched(found, like))
        return with_arrays(arrays, params, stats)

    return start


def canonical(there: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Rename the arrays of a checkpoint as the layout does: without wrappers' prefixes, with today's names.

    Raises UserError if two arrays get the same name.
    """
    result = {}
    bare = layout.prefix and not any(_unwrapped(name).startswith(layout.prefix) for name in there)
    for name, stored in there.items():
        renamed = (layout.prefix if bare else "") + _unwrapped(name)
        for pattern, replacement in layout.aliases.items():
            renamed = re.sub(pattern, replacement, renamed)
        if renamed in result:
            raise UserError(f"two arrays of the checkpoint are called {renamed}; the second is stored as {name}.")
        result[renamed] = stored
    return result


def _unwrapped(name):
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def match(
    like: Mapping[str, Any], layout: Layout, there: Mapping[str, Stored], *, skip: str = NOTHING, drop: str = NOTHING,
    cast: bool = False,
) -> Matched:  # fmt: skip
    """Match our arrays `like` {path: shape and dtype} with those of a checkpoint, and check names, shapes and types.

    Raises UserError with the first problems of a kind.
    """
    _check_pattern("skip", skip, like)
    _check_pattern("drop", drop, there)
    fresh = [path for path in like if re.search(skip, path) and not has_place(path, layout.table)]
    slots = [slot for path in like if path not in fresh for slot in slots_of(path, like[path].shape, layout.table)]
    loaded, missing, unused = {}, [], {}
    for group in groups_of(slots):
        skipped = [re.search(skip, slot.path) is not None for slot in group.slots]
        if all(skipped):
            unused |= {name: "skipped" for name in group.names if name in there}
            fresh += [slot.path for slot in group.slots if slot.path not in fresh]
            continue
        if any(skipped):
            raise UserError(
                f"skip={skip!r} matches only some of the arrays that {group.names[0]} joins; skip them all."
            )
        missing += [(slot, name) for name in group.names if name not in there for slot in group.slots[:1]]
        if not missing:
            for name in group.names:
                _check_array(name, there[name], group, like[group.slots[0].path].dtype, cast=cast)
            for slot in group.slots:
                loaded.setdefault(slot.path, []).append((slot, group))
    if missing:
        lines = [f"{slot.path} needs {name}.{nearest(name, there)}" for slot, name in missing[:3]]
        raise UserError(
            f"{len(missing)} arrays of the network are not in the checkpoint: {' '.join(lines)} To start them from "
            f"their initial values, add them to skip=: {_pattern([slot.path for slot, _ in missing], '/')}."
        )
    stacks = {path: pairs for path, pairs in loaded.items() if pairs[0][0].layer is not None}
    if partial := [path for path, pairs in stacks.items() if len(pairs) < like[path].shape[0]]:
        raise UserError(f"skip={skip!r} matches only some layers of {partial[0]}.")
    used = {name for pairs in loaded.values() for _, group in pairs for name in group.names}
    for name, stored in there.items():
        if name in used or name in unused:
            continue
        if re.search(drop, name):
            unused[name] = "dropped"
        elif re.search(layout.ignored, name):
            unused[name] = "has no counterpart"
        elif name in layout.tied:
            _check_tied(name, stored, layout, there)
            unused[name] = f"a copy of {layout.tied[name]}"
    if extra := [name for name in there if name not in used and name not in unused]:
        raise UserError(
            f"{len(extra)} arrays of the checkpoint are not used: {format_names(extra)}. If they are not wanted, add "
            f"them to drop=: {_pattern(extra, '.')}."
        )
    return Matched(loaded, fresh, unused)


def _pattern(names, separator) -> str:
    """Return a regular expression, as Python text, that matches the first parts of these names."""
    parts = dict.fromkeys(re.escape(name.split(separator)[0]) for name in names)
    together = f"({'|'.join(parts)})" if len(parts) > 1 else "".join(parts)
    return rf'r"^{together}\b"'


def _check_pattern(option, pattern, names):
    if pattern != NOTHING and not any(re.search(pattern, name) for name in names):
        raise UserError(f"{option}={pattern!r} matches no array. Available: {format_names(sorted(names))}.")


def _check_array(name, stored, group, dtype, *, cast):
    if stored.shape != group.shape:
        ours = " and ".join(f"{slot.path} {list(slot.shape)}" for slot in group.slots)
        raise UserError(f"{name} has the shape {list(stored.shape)}; {ours} needs {list(group.shape)}.")
    floating = jnp.issubdtype(stored.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating)
    if stored.dtype != dtype and not (cast and floating):
        hint = " Convert it with cast=True." if floating else ""
        raise UserError(f"{name} has the type {stored.dtype}; {group.slots[0].path} has {dtype}.{hint}")


def _check_tied(name, stored, layout, there):
    """Raise UserError if an array that should be a copy of another one differs from it."""
    other = there.get(layout.tied[name])
    same = other is not None and (other.shape, other.dtype) == (stored.shape, stored.dtype)
    if not same or not np.array_equal(stored.map().view(np.uint8), other.map().view(np.uint8)):
        raise UserError(
            f"{name} differs from {layout.tied[name]}, but our network uses one array for both. To use "
            f"{layout.tied[name]}, remove {name} from the checkpoint."
        )


def _load(target, pairs, there):
    """Read one of our arrays into its sharding: each device's part alone."""

    def part(slot, group):
        arrays = [slot.to_ours(there[name].map()[group.region(slot)]) for name in group.names]
        return arrays[0] if len(arrays) == 1 else sum(x.astype(target.dtype) for x in arrays)

    def read(index):
        if pairs[0][0].layer is None:
            x = part(*pairs[0])[index]
        else:
            x = np.stack([part(*pair)[index[1:]] for pair in pairs[index[0]]])
        x = np.array(x, target.dtype, order="C")  # a copy, and no view of the mapped file
        if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(x).all():
            names = ", ".join(name for _, group in pairs for name in group.names[:1])
            raise UserError(f"{names} has values that are NaN or infinite in {target.dtype}.")
        return x

    if getattr(target, "sharding", None) is None:
        return jnp.asarray(read((slice(None),) * len(target.shape)))
    return jax.make_array_from_callback(target.shape, target.sharding, read)


def format_matched(found: Matched, like: Mapping[str, Any]) -> str:
    """Format a table of the loaded, fresh and unused arrays. Layers that differ only in numbers share a line."""
    rows = []
    for path, pairs in found.loaded.items():
        names = " + ".join(pairs[0][1].names)
        rows.append(("loaded", f"{path}  <- {names}  {list(like[path].shape)}"))
    rows += [("fresh", f"{path}  {list(like[path].shape)}") for path in found.fresh]
    rows += [("unused", f"{name}  ({reason})") for name, reason in found.unused.items()]
    lines: dict[tuple[str, str], list[str]] = {}
    for kind, text in rows:
        lines.setdefault((kind, re.sub(r"(?<=[/.])\d+(?=[/.])", "*", text)), []).append(text)
    return "\n".join(
        f"  {kind:<8}{texts[0] if len(texts) == 1 else text}" + (f"  {len(texts)} x" if len(texts) > 1 else "")
        for (kind, text), texts in lines.items()
    )
