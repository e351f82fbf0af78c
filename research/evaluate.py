"""Evaluations: metric states summed over an evaluation set, on any number of devices.

The results are exact even if the last batch is smaller, because padding is masked, and over any number of batches.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from research.core import Eval, Rows, Trained, eval_step
from research.data.sampling.prefetch import prefetch
from research.data.sampling.process_rows import read_own_rows
from research.distributed.sharding import padded, under
from research.errors import UserError
from research.metric_sums import MetricSums, Total
from research.tree import format_shapes


class Results(NamedTuple):
    """The results of an evaluation, each by name.

    numbers: scalar metrics
    texts: strings
    arrays: arrays, such as a confusion matrix
    rows: per-example results [N, ...], without padding
    timing: wall-clock times, in seconds
    """

    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    timing: Mapping[str, float]


def evaluator(ev: Eval, apply, *, mesh):
    """Return a function (state, interrupted) -> Results. It compiles once.

    The function checks `interrupted()` before every batch and returns None if it is true. It raises UserError if the
    measure fails for the batches of the evaluation.
    """
    add, fresh_sums = eval_step(apply, ev.measure), None

    def packed(params, stats, sums, batch):
        total, rows = add(params, stats, sums.total, batch)
        return MetricSums.of(total, sums.bad), rows

    replicated = NamedSharding(mesh, PartitionSpec())
    step = jax.jit(under(mesh, packed), donate_argnums=2, out_shardings=(replicated, None))

    def empty(params, stats, batch):
        nonlocal fresh_sums
        if fresh_sums is None:  # traced once
            states = trace_measure(ev.measure, Trained(apply, params, stats), batch, mesh=mesh)
            no_sums = lambda: MetricSums.of(Total.zero(states), jnp.int32(-1))
            fresh_sums = jax.jit(no_sums, out_shardings=replicated)
        return fresh_sums()

    def evaluate(state, interrupted=lambda: False):
        start_time, sums, rows = time.perf_counter(), None, []
        params, stats = on_mesh(ev.view(state), mesh)
        complete = lambda batch: padded(batch, mesh)
        read, place = read_own_rows(ev.source, mesh, size=ev.source.size, complete=complete)
        with contextlib.closing(prefetch(read, 0, len(ev.source), place=place)) as batches:
            for batch, _ in batches:
                if interrupted():
                    return None
                sums = empty(params, stats, batch) if sums is None else sums
                sums, batch_rows = step(params, stats, sums, batch)
                rows.append(batch_rows)
        values: dict[str, Any] = {name: state.value() for name, state in fetch_total(fetch(sums).total).items()}
        table = _join_rows(fetch(rows))
        if ev.finish:
            values = {**values, **ev.finish({**values, "rows": table})}
        results = to_results(values, table)
        return results._replace(timing={"seconds": time.perf_counter() - start_time})

    return evaluate


def trace_measure(measure, trained: Trained, batch, *, mesh) -> dict[str, Any]:
    """Trace a measure and return its abstract metric states by name, without Rows. Nothing is computed.

    Raises UserError if the measure fails for the batch.
    """
    try:
        measured = jax.eval_shape(under(mesh, measure), trained, batch)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the measure fails for a batch of {format_shapes(batch)}: {reason}") from error
    return {name: state for name, state in measured.items() if not isinstance(state, Rows)}


def on_mesh(tree, mesh):
    """Re-label arrays that are replicated on another mesh, as pmap leaves them, as replicated on `mesh`.

    No data moves between devices.
    """

    def relabel(x):
        sharding = getattr(x, "sharding", None)
        foreign = isinstance(sharding, NamedSharding) and sharding.mesh != mesh and sharding.is_fully_replicated
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec())) if foreign else x

    return jax.tree.map(relabel, tree)


def fetch_total(total: Total):
    """Fetch the metric states of a Total in f64, which holds both of its parts, and counts up to 2^53 exactly."""
    return fetch(total).exact()


def fetch(tree):
    """Fetch a tree of arrays as numpy arrays, complete on every process.

    It is a collective operation: all processes of a job must call it at the same point.
    """
    distributed = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array) and not x.is_fully_addressable]
    if not all(x.is_fully_replicated for x in distributed):
        replicated = NamedSharding(distributed[0].sharding.mesh, PartitionSpec())
        tree = jax.jit(lambda tree: tree, out_shardings=replicated)(tree)
    return jax.device_get(tree)


def _join_rows(rows) -> dict[str, np.ndarray]:
    """Concatenate the rows of all batches into columns, without padding. All Rows of a measure share one table."""
    columns: dict[str, list] = {}
    for batch_rows in rows:
        for state in batch_rows.values():
            for name, values in state.values.items():
                columns.setdefault(name, []).append(np.asarray(values)[np.asarray(state.mask) > 0])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def to_results(values: Mapping[str, Any], rows=None) -> Results:
    """Sort values by type into Results: strings to texts, scalars to numbers, everything else to arrays."""
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    arrays = {name: np.asarray(value) for name, value in values.items() if name not in texts and name != "rows"}
    numbers = {name: float(value) for name, value in arrays.items() if value.ndim == 0}
    arrays = {name: value for name, value in arrays.items() if value.ndim}
    return Results(numbers, texts, arrays, dict(rows or {}), {})
