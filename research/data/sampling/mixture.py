"""A weighted mixture of several data sets as one random-access Source."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import check_seed, check_size, positions, read, walk
from research.data.sampling.source import epoch_steps
from research.errors import UserError, unknown

LONGEST = 100_000  # maximum period of the pattern, thus the precision of the weights


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Training batches from several data sets; calling it with a seed returns a Source. Created by `mixture`.

    Of every `sum(quotas.values())` consecutive records, `quotas[name]` come from the data set `name`.
    """

    parts: Mapping[str, Any]
    size: int
    quotas: Mapping[str, int]
    augment: Callable | None = None
    shuffle: bool = True

    data = None  # a mixture has no single data set
    data_sets = property(lambda self: self.parts)
    steps = epoch_steps

    @property
    def examples(self) -> int:
        """The number of records in an epoch: the total over all data sets."""
        return sum(len(data) for data in self.parts.values())

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        seed = check_seed(seed)
        kinds, earlier = pattern(list(self.quotas.values()))
        walks = {
            name: walk(data, seed=seed, stream=f"shuffle/{name}", shuffle=self.shuffle)
            for name, data in self.parts.items()
        }

        def batch_at(step, rows=slice(None)):
            cycles, slots = np.divmod(positions(step, self.size, rows), len(kinds))
            fields = {}
            for kind, (name, data) in enumerate(self.parts.items()):
                rows_of_kind = np.flatnonzero(kinds[slots] == kind)
                if not len(rows_of_kind):
                    continue
                # The pattern gives the number of earlier draws from this data set without counting them.
                epochs, indices = walks[name](cycles[rows_of_kind] * self.quotas[name] + earlier[slots[rows_of_kind]])
                part = read(data, indices, epochs=epochs, augment=self.augment, seed=seed, stream=f"augment/{name}")
                for field, values in records.numbers(part).items():
                    column = fields.setdefault(field, np.empty((len(slots), *values.shape[1:]), values.dtype))
                    column[rows_of_kind] = values
            return fields

        return batch_at


def mixture(parts: Mapping[str, Any], size: int, *, weights: Mapping[str, float] | None = None, augment=None,
            shuffle: bool = True) -> Mixture:  # fmt: skip
    """Create training batches from the data sets `{name: data}`, in proportion to `weights` (default: equal).

    A fixed, periodic pattern assigns positions to data sets, as evenly as the weights allow; it is the same for every
    seed. Weights are exact if they are ratios of small integers, otherwise to 1/100000. Each data set has its own
    permutations, keyed by the seed and its name: every record occurs once in each of its own epochs, independently of
    the other data sets. `augment` and `rows` as in `batches`.

    Raises UserError for weights whose names differ from those of the data sets, weights that are not positive, empty
    data, and records of different fields, shapes or dtypes (with which batches would change from step to step).
    """
    if not parts:
        raise UserError("a mixture of no data sets; expected at least one.")
    weights = dict.fromkeys(parts, 1) if weights is None else dict(weights)
    for name in weights:
        if name not in parts:
            raise unknown("data set in the weights", name, parts)
    parts = {name: data_set(data, what=f"the data set {name!r}") for name, data in parts.items()}
    for name in parts:
        weight = weights.get(name)
        if weight is None or not 0 < weight < math.inf:
            raise UserError(f"the weight of the data set {name!r} is {weight}; expected a positive number.")
    _check_same_fields(parts, augment)
    counts = quotas([weights[name] for name in parts])
    for name, count in zip(parts, counts, strict=True):
        if not count:
            raise UserError(f"the weight {weights[name]} of the data set {name!r} is below 1/{LONGEST} of the total.")
    return Mixture(parts, check_size(size), dict(zip(parts, counts, strict=True)), augment, shuffle)


def quotas(weights) -> list[int]:
    """Convert positive weights [k] to the smallest integers in the same proportion, with a sum of at most LONGEST."""
    exact = [Fraction(float(weight)).limit_denominator(10_000) for weight in weights]
    close = all(abs(float(e) - w) <= 1e-9 * w for e, w in zip(exact, weights, strict=True))
    common = math.lcm(*(e.denominator for e in exact))
    counts = [int(e * common) for e in exact]
    if not close or sum(counts) // math.gcd(*counts) > LONGEST:
        counts = largest_remainder(np.asarray(weights, np.float64), LONGEST).tolist()
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]


def largest_remainder(weights, total: int) -> np.ndarray:
    """Distribute `total` items in proportion to `weights` [k]: integers, i64 [k]. Ties go to the first.

    Source: the largest remainder method of Hare and Hamilton.
    """
    ideal = np.asarray(weights, np.float64) / np.sum(weights) * total
    counts = np.floor(ideal).astype(np.int64)
    # Rounding prevents the last bit of a division from breaking a tie.
    rest = np.argsort(-np.round(ideal - counts, 9), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts


def pattern(counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the item drawn in each slot of a period, and its number of earlier draws in the period; i64 [period].

    The j-th of an item's c draws has the ideal time (j + 1/2) / c. Draws are sorted by their ideal times.
    """
    kinds = np.repeat(np.arange(len(counts)), counts)
    earlier = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((earlier + 0.5) / np.asarray(counts)[kinds], kind="stable")
    return kinds[order], earlier[order]


def _check_same_fields(parts, augment):
    signatures = {}
    for name, data in parts.items():
        first = np.zeros(1, np.int64)
        fields = records.numbers(read(data, first, epochs=first, augment=augment, seed=0))
        signatures[name] = {field: f"{x.dtype}{list(x.shape[1:])}" for field, x in sorted(fields.items())}
    (first, expected), *rest = signatures.items()
    for name, signature in rest:
        if signature != expected:
            raise UserError(
                f"the data sets {first!r} and {name!r} of a mixture have different records: {expected} and "
                f"{signature}; convert them to the same fields with mapped(data, fn)."
            )
