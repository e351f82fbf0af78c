"""Evaluations: a measure summed over a whole set, exact for ragged last batches and any number of devices."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from research.core import Eval, Rows, Trained, eval_step
from research.data.sampling.prefetch import prefetch
from research.data.sampling.process_rows import read_own_rows
from research.distributed.sharding import padded, put, shardings, under
from research.errors import UserError
from research.tree import described


class Results(NamedTuple):
    """What an evaluation found: numbers by name, texts, arrays (a confusion matrix), rows {name: [N, ...]} with
    padding dropped, and wall-clock figures.
    """

    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    timing: Mapping[str, float]


def evaluator(ev: Eval, apply, *, mesh):
    """A function (state, interrupted) -> Results, or None when interrupted. It compiles once.

    Raises UserError where the measure does not fit the batches.
    """
    step = jax.jit(under(mesh, eval_step(apply, ev.measure)), donate_argnums=2)
    form = None  # of the totals; traced once

    def begin(params, stats, batch):
        nonlocal form
        if form is None:
            form = traced(params, stats, batch)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), form)
        return put(zeros, shardings(zeros, mesh))

    def traced(params, stats, batch):
        try:
            measured = jax.eval_shape(under(mesh, ev.measure), Trained(apply, params, stats), batch)
        except (TypeError, ValueError, KeyError) as error:
            what = str(error).strip().split("\n")[0]
            raise UserError(f"the evaluation does not fit a batch of {described(batch)}: {what}") from error
        return {name: state for name, state in measured.items() if not isinstance(state, Rows)}

    def evaluate(state, interrupted=lambda: False):
        began, totals, rows = time.perf_counter(), None, []
        params, stats = at_home(ev.view(state), mesh)
        complete = lambda batch: padded(batch, mesh)
        read, onto = read_own_rows(ev.source, mesh, size=ev.source.size, complete=complete)
        ahead = prefetch(read, 0, len(ev.source), place=onto)
        with contextlib.closing(ahead) as batches:
            for batch, _ in batches:
                if interrupted():
                    return None
                totals = begin(params, stats, batch) if totals is None else totals
                totals, found = step(params, stats, totals, batch)
                rows.append(found)
        values: dict[str, Any] = {name: total.value() for name, total in on_host(totals).items()}
        table = _joined(fetched(rows))
        if ev.finish:
            values = {**values, **ev.finish({**values, "rows": table})}
        results = sorted_out(values, table)
        return results._replace(timing={"seconds": time.perf_counter() - began})

    return evaluate


def at_home(tree, mesh):
    """The tree with the copies that pmap left, on a mesh of its own, taken as copies on this one; nothing moves."""

    def known(x):
        place = getattr(x, "sharding", None)
        foreign = isinstance(place, NamedSharding) and place.mesh != mesh and place.is_fully_replicated
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec())) if foreign else x

    return jax.tree.map(known, tree)


def on_host(states):
    """Metric states fetched from the devices, in f64: there counts and quotients are exact."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), fetched(states))


def fetched(tree):
    """Arrays as numpy has them, whole on every process. All processes call it, at the same point."""
    parted = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array) and not x.is_fully_addressable]
    if not all(x.is_fully_replicated for x in parted):
        whole = NamedSharding(parted[0].sharding.mesh, PartitionSpec())
        tree = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
    return jax.device_get(tree)


def _joined(rows) -> dict[str, np.ndarray]:
    """The rows of all batches as columns, without padding. All Rows of a measure share one table."""
    columns: dict[str, list] = {}
    for found in rows:
        for state in found.values():
            for name, values in state.values.items():
                columns.setdefault(name, []).append(np.asarray(values)[np.asarray(state.mask) > 0])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def sorted_out(values: Mapping[str, Any], rows=None) -> Results:
    """Results from values by name: scalars are numbers, strings texts, everything else arrays."""
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    arrays = {name: np.asarray(value) for name, value in values.items() if name not in texts and name != "rows"}
    numbers = {name: float(value) for name, value in arrays.items() if value.ndim == 0}
    arrays = {name: value for name, value in arrays.items() if value.ndim}
    return Results(numbers, texts, arrays, dict(rows or {}), {})
