"""Several data sets in given proportions, as one Source that is still random-access."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.sampling.batches import check_seed, check_size, positions, read, walk
from research.data.sampling.source import epoch_steps
from research.errors import UserError, unknown

LONGEST = 100_000  # the longest pattern: weights are kept to this precision


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Training batches from several data sets, a Source for every seed; made by `mixture`.

    `quotas[name]` of every `sum(quotas.values())` consecutive records come from that data set.
    """

    parts: Mapping[str, Any]
    size: int
    quotas: Mapping[str, int]
    augment: Callable | None = None
    shuffle: bool = True

    data = None  # there are several
    steps = epoch_steps

    @property
    def examples(self) -> int:
        """Records in an epoch of the mixture: as many as all its data sets hold together."""
        return sum(len(data) for data in self.parts.values())

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
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
                chosen = np.flatnonzero(kinds[slots] == kind)
                if not len(chosen):
                    continue
                # How often this data set was drawn before is known without counting: that is the pattern's point.
                epochs, indices = walks[name](cycles[chosen] * self.quotas[name] + earlier[slots[chosen]])
                part = read(data, indices, epochs=epochs, augment=self.augment, seed=seed, stream=f"augment/{name}")
                for field, values in records.numbers(part).items():
                    whole = fields.setdefault(field, np.empty((len(slots), *values.shape[1:]), values.dtype))
                    whole[chosen] = values
            return fields

        return batch_at


def mixture(parts: Mapping[str, Any], size: int, *, weights: Mapping[str, float] | None = None, augment=None,
            shuffle: bool = True) -> Mixture:  # fmt: skip
    """Training batches from the data sets `{name: data}`, in proportion to `weights` (default: equal).

    Which data set a position draws from is a fixed pattern that repeats, spread as evenly as the weights allow; it
    is the same for every seed. Weights are exact where they are ratios of small numbers, else to 1/100000. Each data
    set is walked through its own permutations (keyed by seed and its name), every record once in each of its own
    epochs, and independently of the other data sets. `augment` and `rows` as in `batches`.

    Raises UserError for names that differ, weights that are not positive, empty data, and records of different
    fields, shapes or dtypes (which would change the batch from step to step).
    """
    if not parts:
        raise UserError("a mixture of no data sets.")
    weights = dict.fromkeys(parts, 1) if weights is None else dict(weights)
    for name in weights:
        if name not in parts:
            raise unknown("data set in the weights", name, parts)
    for name, data in parts.items():
        records.size_of(data, what=f"the data set {name!r}")
        weight = weights.get(name)
        if weight is None or not 0 < weight < math.inf:
            raise UserError(f"the weight of the data set {name!r} is {weight}; expected a positive number.")
    _check_alike(parts, augment)
    shares = quotas([weights[name] for name in parts])
    for name, share in zip(parts, shares, strict=True):
        if not share:
            raise UserError(f"the weight {weights[name]} of the data set {name!r} is below 1/{LONGEST} of the whole.")
    return Mixture(dict(parts), check_size(size), dict(zip(parts, shares, strict=True)), augment, shuffle)


def quotas(weights) -> list[int]:
    """Positive weights [k] as the smallest whole numbers in the same proportion, adding up to at most LONGEST."""
    exact = [Fraction(float(weight)).limit_denominator(10_000) for weight in weights]
    close = all(abs(float(e) - w) <= 1e-9 * w for e, w in zip(exact, weights, strict=True))
    common = math.lcm(*(e.denominator for e in exact))
    counts = [int(e * common) for e in exact]
    if not close or sum(counts) // math.gcd(*counts) > LONGEST:
        counts = largest_remainder(np.asarray(weights, np.float64), LONGEST).tolist()
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]


def largest_remainder(weights, total: int) -> np.ndarray:
    """`total` things shared out in proportion to `weights` [k]: whole numbers, i64 [k]; ties go to the first.

    Source: the method of Hare and Hamilton.
    """
    ideal = np.asarray(weights, np.float64) / np.sum(weights) * total
    counts = np.floor(ideal).astype(np.int64)
    # Rounded, so that a tie is not decided by the last bit of a division.
    rest = np.argsort(-np.round(ideal - counts, 9), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts


def pattern(counts) -> tuple[np.ndarray, np.ndarray]:
    """Who is drawn in each slot of a period, and how often it was drawn before in the period; both i64 [period].

    The j-th of a thing's c draws has the ideal time (j + 1/2) / c, and draws come in the order of their ideal times.
    """
    kinds = np.repeat(np.arange(len(counts)), counts)
    earlier = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((earlier + 0.5) / np.asarray(counts)[kinds], kind="stable")
    return kinds[order], earlier[order]


def _check_alike(parts, augment):
    forms = {}
    for name, data in parts.items():
        first = np.zeros(1, np.int64)
        fields = records.numbers(read(data, first, epochs=first, augment=augment, seed=0))
        forms[name] = {field: f"{x.dtype}{list(x.shape[1:])}" for field, x in sorted(fields.items())}
    (first, form), *others = forms.items()
    for name, other in others:
        if other != form:
            raise UserError(
                f"the data sets {first!r} and {name!r} of a mixture have different records: {form} and {other}; "
                "make them alike with mapped(data, fn)."
            )
