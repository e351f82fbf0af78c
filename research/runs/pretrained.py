"""Starting from the weights of another run, in whole or in part."""

import re
from collections.abc import Mapping

import jax
import numpy as np

from research.errors import UserError, listed, nearest
from research.tree import path_name
from research.wrappers.frozen import FROZEN


def pretrained(run, names: Mapping[str, str] | None = None, *, tell=print):
    """An `init_from` for an Experiment: `(params, stats) -> (params, stats)`, with arrays of another run's checkpoint.

    `run` is RUN, RUN@step or RUN@best. `names` maps patterns of names here to names there, e.g.
    `{r"encoder/(.*)": r"backbone/\\1"}`; None takes every array that has the same name. A name is a path such as
    `layers/0/kernel`, in stats `stats/model/layers/0/mean`; frozen arrays go by the names of params. `*` in a name
    there stacks what it matches on a new leading axis, in the order of numbers, and a last `[i]` takes one of a
    stack: `{r"blocks/(.*)": r"blocks/*/\\1"}` and `{r"blocks/(\\d+)/(.*)": r"blocks/\\2[\\1]"}`.

    A table of what was loaded, reshaped and missed goes to `tell`. Not called when a run resumes. Raises UserError
    for a name that is not there, a pattern that matches nothing here, and sizes that differ.
    """

    def start(params, stats):
        there = _arrays(*read_arrays(run))
        here = _arrays(params, stats)
        table, loaded, used = [], {}, set()
        for name, array in here.items():
            source, pattern = _source(name, names, there)
            used.add(pattern)
            if source is None:
                table.append(("missing", name, "", array.shape))
                continue
            found = _find(source, there, run)
            if found.size != array.size:
                raise UserError(f"{name} has shape {array.shape}, {source} in {run} has {found.shape}.")
            table.append(("loaded" if found.shape == array.shape else "reshaped", name, source, found.shape))
            loaded[name] = jax.device_put(found.reshape(array.shape).astype(array.dtype), array.sharding)
        if unused := set(names or {}) - used:
            raise UserError(
                f"the pattern {sorted(unused)[0]!r} matches no array here. There are: {listed(sorted(here))}."
            )
        tell("\n".join(f"  {kind:<9}{name}  {('<- ' + source) if source else ''} {shape}"
                       for kind, name, source, shape in table))  # fmt: skip
        fill = lambda prefix, tree: jax.tree.map_with_path(lambda path, x: loaded.get(_name(prefix, path), x), tree)
        return fill("", params), fill("stats", stats)

    return start


def read_arrays(run):
    """(params, stats) of `RUN`, `RUN@step` or `RUN@best` as nested dicts of numpy arrays, verified."""
    from research.runs.checkpoint import read_raw
    from research.runs.named_checkpoint import find_checkpoint

    named = find_checkpoint(run)
    state = read_raw(named.folder / "checkpoints" / str(named.step))
    return state["params"], state.get("stats") or {}


def _name(prefix, path):
    name = "/".join(part for part in (prefix, path_name(path)) if part)
    return name.removeprefix(f"stats/{FROZEN}/")


def _arrays(params, stats):
    return {
        _name(prefix, path): x
        for prefix, tree in (("", params), ("stats", stats))
        for path, x in jax.tree.leaves_with_path(tree)
    }


def _source(name, names, there):
    """The name there that `name` is loaded from, and the pattern that said so."""
    if names is None:
        return (name if name in there else None), None
    for pattern, template in names.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(template), pattern
    return None, None


def _find(source, there, run):
    """The array that a name there means: itself, a stack of several, or one of a stack."""
    name, index = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", source).groups()
    if "*" in name:
        matcher = re.compile("([^/]+)".join(map(re.escape, name.split("*"))))
        found = {m.groups(): x for m, x in ((matcher.fullmatch(n), x) for n, x in there.items()) if m}
        if found:
            # By number: sorted as texts, layer 10 precedes layer 2.
            order = sorted(found, key=lambda keys: [(int(k), "") if k.isdigit() else (0, k) for k in keys])
            return np.stack([found[keys] for keys in order])
    elif name in there:
        return there[name] if index is None else there[name][int(index)]
    raise UserError(f"{run} has no array {source!r}.{nearest(name, there)} There are: {listed(sorted(there))}.")
