"""An evaluation on parts of its set: a model that wins on average may lose on a slice."""

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
from research.metrics.scores import Number, numbers_of, single


class Slices(NamedTuple):
    """A way to part a set: `of(batch)` gives the number of each record's slice, in 0 .. len(names) - 1.

    A record with any other number is in no slice.
    """

    of: Callable[[Mapping], Integer[Array, " batch"]]
    names: tuple[str, ...]


class Parted(NamedTuple):
    """Metric states by name, each one for every slice, stacked on a leading axis. States add up."""

    states: Mapping[str, Any]

    def value(self) -> list[dict[str, Any]]:
        """{metric: value} for each slice."""
        count = len(jax.tree.leaves(self.states)[0]) if self.states else 0
        parts = (jax.tree.map(lambda x, k=k: x[k], self.states) for k in range(count))
        return [{name: state.value() for name, state in part.items()} for part in parts]


def classes(names: int | Sequence[str], *, labels: str = "label") -> Slices:
    """A slice for each class: `names` of the classes, or their number; the field `labels` holds class numbers."""
    return Slices(
        lambda batch: field(batch, labels), tuple(map(str, range(names) if isinstance(names, int) else names))
    )


def bands(of: Callable[[Mapping], Num[Array, " batch"]], edges: Sequence[float] | Num[Array, " _"]) -> Slices:
    """Slices by a number `of(batch)`, such as brightness or length: below the first of the ascending `edges`, from each
    edge to below the next, and from the last on. A record whose number is NaN is in no slice.

    Raises UserError for edges that do not ascend.
    """
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or not len(edges) or not (np.diff(edges) > 0).all() or not np.isfinite(edges).all():
        raise UserError(f"the edges {edges.tolist()} of slices; expected finite numbers, each above the one before.")
    shown = [f"{edge:.4g}" for edge in edges]
    names = [f"< {shown[0]}", *(f"{a} to {b}" for a, b in zip(shown, shown[1:], strict=False)), f">= {shown[-1]}"]

    def number(batch: Mapping) -> Int[Array, " batch"]:
        x = jnp.asarray(of(batch), jnp.float32)
        return jnp.where(jnp.isnan(x), -1, jnp.searchsorted(jnp.asarray(edges, jnp.float32), x, side="right"))

    return Slices(number, tuple(names))


def sliced(ev: Eval, *, by: Mapping[str, Slices], higher: Sequence[str] = (), lower: Sequence[str] = ()) -> Eval:
    """The Eval that gives all results of `ev`, and the same numbers for each slice as if the set were that slice alone:
    each metric of its measure and each number of its `finish`.

    For each way `by` it adds arrays with one entry for each slice: `slices/<by>` (the names), `slices/<by>/count` and
    `slices/<by>/<metric>`; the rows `slice/<by>`, the number of each record's slice; and the text `slices`, a table.
    For each metric of `higher` (more is better) and `lower` (less is) it adds the number `<metric>/worst_<by>`; the
    text shows only these metrics, or all if none is named. In a slice without a record metrics are NaN; a NaN is not
    the worst.

    The measure must weigh examples by `batch["mask"]` (`example_weights`), as all of ours do. The model runs once: only
    the parts that depend on the mask are done for each slice. Raises UserError for a name with a slash; at the first
    batch for slices that are not an int for each record; and at the end for an unknown metric of `higher` or `lower`.
    """
    if named := [name for name in by if "/" in name]:
        raise UserError(f"slices by {named[0]!r}: the name may hold no slash.")
    watched = (*higher, *lower)

    def measure(trained: Trained, batch: Mapping) -> dict:
        size = len(jax.tree.leaves(batch)[0])
        whole = example_weights(batch, size)
        numbers = {f"slice/{name}": jnp.asarray(ways.of(batch)) for name, ways in by.items()}
        masks = [whole[None]]
        for (name, ways), number in zip(by.items(), numbers.values(), strict=True):
            if number.shape != (size,) or not jnp.issubdtype(number.dtype, jnp.integer):
                given = f"{number.dtype}{list(number.shape)}"
                raise UserError(f"slices by {name!r} are {given}; expected an int for each of {size} records.")
            masks.append(whole * (number == jnp.arange(len(ways.names))[:, None]))
        # The forward pass does not depend on the mask, thus vmap does it once.
        found = jax.vmap(lambda mask: ev.measure(trained, {**batch, "mask": mask}))(jnp.concatenate(masks))
        measured = {name: jax.tree.map(lambda x: x[0], state) for name, state in found.items()}
        states = {name: state for name, state in found.items() if not isinstance(state, Rows)}
        start = 1
        for name, ways in by.items():
            part = slice(start, start := start + len(ways.names))
            measured[f"slices/{name}"] = Parted(jax.tree.map(lambda x, part=part: x[part], states))
        return {**measured, "/".join(numbers): Rows(numbers, whole)}

    def finish(results: Mapping) -> dict:
        own = {f"slices/{name}" for name in by}
        given = {name: value for name, value in results.items() if name not in own}
        extra = dict(ev.finish(given)) if ev.finish else {}
        metrics = numbers_of({**given, **extra})
        for metric in watched:
            single(metrics, metric)
        lines = []
        for name, ways in by.items():
            of = results["rows"][f"slice/{name}"]
            parts = [
                _of_slice(ev, values, {key: column[of == k] for key, column in results["rows"].items()})
                for k, values in enumerate(results[f"slices/{name}"] or [{}] * len(ways.names))
            ]
            table = {"count": np.array([(of == k).sum() for k in range(len(parts))])}
            table |= {metric: np.array([float(part.get(metric, np.nan)) for part in parts]) for metric in metrics}
            extra |= {f"slices/{name}": np.array(ways.names)}
            extra |= {f"slices/{name}/{metric}": column for metric, column in table.items()}
            for metric in watched:
                defined = table[metric][~np.isnan(table[metric])]
                extra[f"{metric}/worst_{name}"] = (min if metric in higher else max)(defined, default=np.nan)
            shown = {key: table[key] for key in ("count", *(watched or metrics))}
            lines += [*_lines(name, ways.names, shown), ""]
        return {**extra, "slices": "\n".join(lines[:-1])}

    return ev._replace(measure=measure, finish=finish)


def _of_slice(ev: Eval, values: Mapping, rows: Mapping[str, Shaped[np.ndarray, "rows ..."]]) -> dict[str, Number]:
    """The numbers of one slice; none if it has no record, and none of a `finish` for which these records are too few or
    too much alike.
    """
    if not len(next(iter(rows.values()))):
        return {}
    try:
        return numbers_of({**values, **(ev.finish({**values, "rows": rows}) if ev.finish else {})})
    except UserError:
        return numbers_of(values)


def _lines(name: str, names: tuple[str, ...], table: Mapping[str, Shaped[np.ndarray, " slices"]]) -> list[str]:
    """The slices as lines of text, one each, under the names of the columns."""
    cells = [[name, *table]]
    for k, title in enumerate(names):
        cells.append([title, *(f"{column[k]:.4g}" for column in table.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
