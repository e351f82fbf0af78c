"""Initialising params and stats from the weights of another run."""

import re
from collections.abc import Mapping

import numpy as np

from research.distributed.sharding import put
from research.errors import UserError, format_names, nearest
from research.wrappers.frozen import named_arrays, with_arrays
from research.wrappers.lora import merged


def pretrained(run, names: Mapping[str, str] | None = None, *, merge: bool = False, tell=print):
    """Return an `init_from` for an Experiment that replaces arrays by those of a checkpoint of another run.

    `run` is RUN, RUN@step or RUN@best. `names` maps patterns of target names (regular expressions, matched against the
    full name of an array of this experiment) to source names in the checkpoint, such as
    `{r"encoder/(.*)": r"backbone/\\1"}`. None loads every array whose name exists in the checkpoint. A name is a path
    such as `layers/0/kernel`, or `stats/model/layers/0/mean` for stats. Frozen arrays have the names of params. `*` in
    a source name stacks all matching arrays on a new leading axis, in numerical order, and `[i]` at its end selects one
    entry of a stack: `{r"blocks/(.*)": r"blocks/*/\\1"}` and `{r"blocks/(\\d+)/(.*)": r"blocks/\\2[\\1]"}`.

    With `merge`, the run is one of `wrappers.lora`, and its kernels are loaded with the low-rank updates added.
    `tell` receives a table of the loaded, reshaped and missing arrays; missing ones keep their initial values. The
    function is not called when a run resumes.
    Raises UserError if a source name does not exist, if a pattern matches no target, if two sizes differ, or if a run
    to merge has no low-rank updates.
    """

    def start(params, stats):
        arrays = read_arrays(run)
        sources = named_arrays(*((merged(*arrays), {}) if merge else arrays))
        targets = named_arrays(params, stats)
        table, loaded, used = [], {}, set()
        for name, target in targets.items():
            source_name, pattern = _source_name(name, names, sources)
            used.add(pattern)
            if source_name is None:
                table.append(("missing", name, "", target.shape))
                continue
            source = _find_source(source_name, sources, run)
            if source.size != target.size:
                raise UserError(f"{name} has shape {target.shape}, but {source_name} in {run} has {source.shape}.")
            table.append(("loaded" if source.shape == target.shape else "reshaped", name, source_name, source.shape))
            loaded[name] = put(source.reshape(target.shape).astype(target.dtype), target.sharding)
        if unused := set(names or {}) - used:
            raise UserError(
                f"the pattern {sorted(unused)[0]!r} matches no array here. Available: {format_names(sorted(targets))}."
            )
        tell("\n".join(f"  {kind:<9}{name}  {('<- ' + source) if source else ''} {shape}"
                       for kind, name, source, shape in table))  # fmt: skip
        return with_arrays(loaded, params, stats)

    return start


def read_arrays(run):
    """Read (params, stats) of `RUN`, `RUN@step` or `RUN@best` as nested dicts of numpy arrays, with verification."""
    from research.runs.checkpoint import read_raw
    from research.runs.named_checkpoint import find_checkpoint

    checkpoint = find_checkpoint(run)
    state = read_raw(checkpoint.folder / "checkpoints" / str(checkpoint.step))
    return state["params"], state.get("stats") or {}


def _source_name(name, names, sources):
    """Return the source name for the target `name`, and the pattern that matched; None for either if there is none."""
    if names is None:
        return (name if name in sources else None), None
    for pattern, template in names.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(template), pattern
    return None, None


def _find_source(source_name, sources, run):
    """Return the array of a source name: one array, a stack of several, or one entry of a stack."""
    name, index = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", source_name).groups()
    if "*" in name:
        pattern = re.compile("([^/]+)".join(map(re.escape, name.split("*"))))
        matches = {m.groups(): x for m, x in ((pattern.fullmatch(n), x) for n, x in sources.items()) if m}
        if matches:
            # Sort by number: sorted as strings, layer 10 precedes layer 2.
            order = sorted(matches, key=lambda keys: [(int(k), "") if k.isdigit() else (0, k) for k in keys])
            return np.stack([matches[keys] for keys in order])
    elif name in sources:
        if index is None:
            return sources[name]
        if (count := len(sources[name]) if sources[name].ndim else 0) <= int(index):
            raise UserError(f"{run} has no array {source_name!r}: {name} has {count} entries, from [0].")
        return sources[name][int(index)]
    hint = nearest(name, sources)
    raise UserError(f"{run} has no array {source_name!r}.{hint} Available: {format_names(sorted(sources))}.")
