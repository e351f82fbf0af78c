"""Training batches of records of similar length: fewer padding entries, in a few shapes."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import check_seed, check_size, generator
from research.data.sampling.source import epoch_steps
from research.errors import UserError, format_names


@dataclasses.dataclass(frozen=True, eq=False)
class ByLength:
    """Training batches of `size` records by length; calling it with a seed returns a Source. Created by `by_length`."""

    data: Any
    size: int
    fields: tuple[str, ...]
    places: np.ndarray
    buckets: tuple[int, ...]

    steps = epoch_steps

    @property
    def examples(self) -> int:
        """The number of records in an epoch."""
        return len(self.data)

    @property
    def forms(self) -> int:
        """The number of shapes that batches may have."""
        return len(self.buckets)

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...], "mask"}`."""
        seed, count = check_seed(seed), -(-len(self.data) // self.size)

        @functools.lru_cache(maxsize=2)
        def plan(epoch):
            """Return the batches of an epoch in their order: (bucket, record indices)."""
            rng = generator(seed, "by_length", epoch)
            order, left, made = rng.permutation(len(self.data)), np.empty(0, np.int64), []
            for bucket in range(len(self.buckets)):
                found = np.concatenate([left, order[self.places[order] == bucket]])
                whole = len(found) // self.size * self.size
                made += [(bucket, part) for part in found[:whole].reshape(-1, self.size)]
                left = found[whole:]
            made += [(int(self.places[left].max()), left)] if len(left) else []
            return [made[i] for i in rng.permutation(len(made))]

        def batch_at(step, rows=slice(None)):
            epoch, number = divmod(int(step), count)
            bucket, indices = plan(epoch)[number]
            real = np.arange(self.size) < len(indices)
            chosen = np.where(real, np.resize(indices, self.size), indices[0])[rows]
            found = records.numbers(records.columns(self.data, chosen))
            cut = {name: found[name][:, : self.buckets[bucket]] for name in self.fields}
            return {**found, **cut, "mask": real[rows].astype(np.float32)}

        return batch_at


def by_length(data, size: int, *, fields: Sequence[str], lengths: np.ndarray, buckets: Sequence[int]) -> ByLength:
    """Create training batches of records of similar length: `by_length(data, size, ...)(seed)(step)`.

    fields: the fields [n, length, ...] that are padded at the end; a batch has their first `bucket` entries
    lengths: the entries of each record that are not padding, [n]
    buckets: the lengths of batches, ascending; the last is at least the longest record

    A batch has records of one bucket, and is a pure function of (seed, step). An epoch has every record once, in
    ceil(n / size) batches in random order; what is left of a bucket goes to the next longer one, and the last batch is
    filled up with records of mask 0. The step is compiled once per bucket. Not with `Experiment(stride=)` above 1.
    Raises UserError for lengths that do not fit the buckets or the records.
    """
    data, size = data_set(data), check_size(size)
    lengths, buckets = np.asarray(lengths), tuple(int(bucket) for bucket in buckets)
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise UserError(f"by_length(buckets={buckets}); expected ascending lengths of at least 1.")
    if lengths.shape != (len(data),):
        raise UserError(f"lengths are {list(lengths.shape)} for {len(data)} records; expected one per record.")
    if lengths.max() > buckets[-1]:
        raise UserError(
            f"record {int(lengths.argmax())} has the length {int(lengths.max())}; the longest bucket is {buckets[-1]}."
        )
    first = records.columns(data, np.arange(1))
    if absent := [name for name in fields if name not in first or first[name].ndim < 2]:
        raise UserError(
            f"the records have no padded field {format_names(absent)}; they have {format_names(list(first))}."
        )
    return ByLength(data, size, tuple(fields), np.searchsorted(buckets, lengths), buckets)
