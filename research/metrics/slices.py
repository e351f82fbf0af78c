"""Metrics on slices of an evaluation set: a model that wins on average may lose on a slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Int, Integer, Num, Shaped
from research.core import Eval, Rows, Trained
from research.errors import UserError
from research.fields import example_weights, field
from research.metrics.scores import Number, scalar, scalars


class Slices(NamedTuple):
    """A partition of a set: `of(batch)` returns the slice index of each record, in 0 .. len(names) - 1.

    A record with any other index is in no slice.
    """

    of: Callable[[Mapping], Integer[Array, " batch"]]
    names: tuple[str, ...]


class SlicedStates(NamedTuple):
    """Metric states by name, stacked over the slices on a leading axis. States add up."""

    states: Mapping[str, Any]

    def value(self) -> list[dict[str, Any]]:
        """Return {metric: value} for each slice."""
        count = len(jax.tree.leaves(self.states)[0]) if self.states else 0
        parts = (jax.tree.map(lambda x, k=k: x[k], self.states) for k in range(count))
        return [{name: state.value() for name, state in part.items()} for part in parts]


def classes(names: int | Sequence[str], *, labels: str = "label") -> Slices:
    """Slice by class: `names` holds the class names or their number; the field `labels` holds class indices."""
    return Slices(
        lambda batch: field(batch, labels), tuple(map(str, range(names) if isinstance(names, int) else names))
    )


def bands(of: Callable[[Mapping], Num[Array, " batch"]], edges: Sequence[float] | Num[Array, " _"]) -> Slices:
    """Slice by a number `of(batch)`, such as brightness or length, at the ascending `edges`.

    One slice lies below the first edge, one from each edge to below the next, and one from the last edge on. A record
    whose number is NaN is in no slice. Raises UserError for edges that do not ascend or are not finite.
    """
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or not len(edges) or not (np.diff(edges) > 0).all() or not np.isfinite(edges).all():
        raise UserError(f"the edges {edges.tolist()} of slices; expected finite, strictly ascending numbers.")
    labels = [f"{edge:.4g}" for edge in edges]
    names = [f"< {labels[0]}", *(f"{a} to {b}" for a, b in zip(labels, labels[1:], strict=False)), f">= {labels[-1]}"]

    def number(batch: Mapping) -> Int[Array, " batch"]:
        x = jnp.asarray(of(batch), jnp.float32)
        return jnp.where(jnp.isnan(x), -1, jnp.searchsorted(jnp.asarray(edges, jnp.float32), x, side="right"))

    return Slices(number, tuple(names))


def sliced(ev: Eval, *, by: Mapping[str, Slices], higher: Sequence[str] = (), lower: Sequence[str] = ()) -> Eval:
    """Return `ev` with added metrics for each slice, equal to those of an evaluation on the slice alone.

    These are the metrics of its measure and the numbers of its `finish`. For each name of `by`, the results gain:

        slices/<by>             array: the names of the slices
        slices/<by>/count       array: the number of records in each slice
        slices/<by>/<metric>    array: the metric on each slice
        slice/<by>              rows: the slice index of each record
        <metric>/worst_<by>     number: for each metric of `higher` (more is better) and `lower` (less is better)

    The text `slices` is a table of the metrics in `higher` and `lower`, or of all metrics if both are empty. In an
    empty slice metrics are NaN; a NaN is never the worst.

    The measure must weight examples by `batch["mask"]` (`example_weights`), as all measures of this library do. The
    model runs once; only computations that depend on the mask run once per slice. Raises UserError for a name with a
    slash; at the first batch, if the indices are not one int per record; at the end, for an unknown metric in `higher`
    or `lower`.
    """
    if with_slash := [name for name in by if "/" in name]:
        raise UserError(f"slices by {with_slash[0]!r}: the name must not contain a slash.")
    watched = (*higher, *lower)

    def measure(trained: Trained, batch: Mapping) -> dict:
        size = len(jax.tree.leaves(batch)[0])
        weights = example_weights(batch, size)
        indices = {f"slice/{name}": jnp.asarray(partition.of(batch)) for name, partition in by.items()}
        masks = [weights[None]]
        for (name, partition), index in zip(by.items(), indices.values(), strict=True):
            if index.shape != (size,) or not jnp.issubdtype(index.dtype, jnp.integer):
                given_type = f"{index.dtype}{list(index.shape)}"
                raise UserError(f"slices by {name!r} are {given_type}; expected one int for each of {size} records.")
            masks.append(weights * (index == jnp.arange(len(partition.names))[:, None]))
        # The forward pass does not depend on the mask, thus vmap computes it once.
        results_by_mask = jax.vmap(lambda mask: ev.measure(trained, {**batch, "mask": mask}))(jnp.concatenate(masks))
        measured = {name: jax.tree.map(lambda x: x[0], state) for name, state in results_by_mask.items()}
        states = {name: state for name, state in results_by_mask.items() if not isinstance(state, Rows)}
        start = 1
        for name, partition in by.items():
            selection = slice(start, start := start + len(partition.names))
            measured[f"slices/{name}"] = SlicedStates(jax.tree.map(lambda x, selection=selection: x[selection], states))
        return {**measured, "/".join(indices): Rows(indices, weights)}

    def finish(results: Mapping) -> dict:
        sliced_keys = {f"slices/{name}" for name in by}
        own_results = {name: value for name, value in results.items() if name not in sliced_keys}
        extra = dict(ev.finish(own_results)) if ev.finish else {}
        metrics = scalars({**own_results, **extra})
        for metric in watched:
            scalar(metrics, metric)
        lines = []
        for name, partition in by.items():
            record_slices = results["rows"][f"slice/{name}"]
            by_slice = [
                _of_slice(ev, values, {key: column[record_slices == k] for key, column in results["rows"].items()})
                for k, values in enumerate(results[f"slices/{name}"] or [{}] * len(partition.names))
            ]
            table = {"count": np.array([(record_slices == k).sum() for k in range(len(by_slice))])}
            table |= {metric: np.array([float(entry.get(metric, np.nan)) for entry in by_slice]) for metric in metrics}
            extra |= {f"slices/{name}": np.array(partition.names)}
            extra |= {f"slices/{name}/{metric}": column for metric, column in table.items()}
            for metric in watched:
                defined = table[metric][~np.isnan(table[metric])]
                extra[f"{metric}/worst_{name}"] = (min if metric in higher else max)(defined, default=np.nan)
            columns = {key: table[key] for key in ("count", *(watched or metrics))}
            lines += [*_lines(name, partition.names, columns), ""]
        return {**extra, "slices": "\n".join(lines[:-1])}

    return ev._replace(measure=measure, finish=finish)


def _of_slice(ev: Eval, values: Mapping, rows: Mapping[str, Shaped[np.ndarray, "rows ..."]]) -> dict[str, Number]:
    """Return the numbers of one slice.

    There are none if it is empty, and none from `finish` if its records are too few or too similar.
    """
    if not len(next(iter(rows.values()))):
        return {}
    try:
        return scalars({**values, **(ev.finish({**values, "rows": rows}) if ev.finish else {})})
    except UserError:
        return scalars(values)


def _lines(name: str, names: tuple[str, ...], table: Mapping[str, Shaped[np.ndarray, " slices"]]) -> list[str]:
    """Format the slices as lines of text, one per slice, below a header with the column names."""
    cells = [[name, *table]]
    for k, title in enumerate(names):
        cells.append([title, *(f"{column[k]:.4g}" for column in table.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
