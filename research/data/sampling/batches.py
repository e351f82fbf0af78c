"""Batches as pure functions of a step: random-access, the same for any number of processes, nothing to restore.

Position p = step * size + row of the endless training sequence is record permutation(seed, epoch)[p % n] of epoch
p // n. So a run that starts at any step reads what an unbroken one would have read.
"""

import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batches:
    """Training batches of `size` records, a Source for every seed; made by `batches`."""

    data: Any
    size: int
    augment: Callable | None = None
    shuffle: bool = True

    steps = epoch_steps

    @property
    def examples(self) -> int:
        """Records in an epoch."""
        return len(self.data)

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        seed = check_seed(seed)
        order = walk(self.data, seed=seed, stream="shuffle", shuffle=self.shuffle)

        def batch_at(step, rows=slice(None)):
            epochs, indices = order(positions(step, self.size, rows))
            return records.numbers(read(self.data, indices, epochs=epochs, augment=self.augment, seed=seed))

        return batch_at


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """Evaluation batches of `size` records in order, each record once; made by `eval_batches`."""

    data: Any
    size: int

    @property
    def examples(self) -> int:
        """Records that count, padding left out."""
        return len(self.data)

    def __len__(self):
        return -(-len(self.data) // self.size)

    def __call__(self, step: int, rows=slice(None)):
        step = operator.index(step)
        if not 0 <= step < len(self):
            raise IndexError(f"batch {step} of {len(self)} batches")
        indices = positions(step, self.size, rows)
        real = indices < len(self.data)
        fields = records.numbers(records.columns(self.data, np.where(real, indices, step * self.size)))
        if "mask" in fields:
            raise UserError("the records have a field 'mask', which eval_batches adds; rename it with mapped().")
        return {**fields, "mask": real.astype(np.float32)}


def batches(data, size: int, *, augment=None, shuffle: bool = True) -> Batches:
    """Training batches: `batches(data, size)(seed)(step)` is {field: [size, ...]}, pure and random-access.

    Every record comes exactly once an epoch. **The last ragged batch of an epoch wraps into the next epoch**: no
    record is dropped or repeated, and a batch may be larger than the data. `augment(rng, record) -> record` runs on
    the host; `rng` is a numpy Generator keyed by (seed, epoch, record index), never by process or thread, and the
    record is a copy that it may write into. Fields of strings reach `augment` but not the batch.
    `rows` (a slice or an array of row numbers) picks the rows of the global batch that a process holds; only those
    are read, and the rows of all processes make up the global batch bit for bit.

    The order is that of numpy's Philox generator and may change with numpy's version, not with the machine.
    Raises UserError for empty data, a size below 1, and records that do not stack.
    """
    records.size_of(data)
    return Batches(data, check_size(size), augment, shuffle)


def eval_batches(data, size: int) -> EvalBatches:
    """Evaluation batches: `eval_batches(data, size)(i)` is {field: [size, ...], "mask": f32 [size]} for every i < len.

    Records come in order, each once. The last batch is padded by repeating its first record, so that padding holds
    valid values; `mask` is 1 for a record and 0 for padding, in every batch. `rows` as in `batches`.
    Raises UserError for empty data, a size below 1, records that do not stack or that have a field `mask`.
    """
    records.size_of(data, what="the evaluation set")
    return EvalBatches(data, check_size(size))


def positions(step: int, size: int, rows=slice(None)) -> np.ndarray:
    """Where the chosen rows of batch `step` lie in the endless sequence, i64 [rows]."""
    return operator.index(step) * size + np.arange(size, dtype=np.int64)[rows]


def walk(data, *, seed: int, stream: str, shuffle: bool):
    """positions [m] -> (epochs [m], indices [m]): the endless walk through `data`, each record once an epoch.

    The permutations of the last two epochs are kept; threads may share the walk.
    """
    count = len(data)

    @functools.lru_cache(maxsize=2)
    def permutation(epoch):
        return generator(seed, stream, epoch).permutation(count)

    def at(where):
        epochs, offsets = np.divmod(where, count)
        if not shuffle:
            return epochs, offsets
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            indices[chosen] = permutation(int(epoch))[offsets[chosen]]
        return epochs, indices

    return at


def read(data, indices, *, epochs, augment, seed, stream="augment") -> dict[str, np.ndarray]:
    """The records at `indices` as one array a field, each augmented by a generator of its own epoch and index."""
    if augment is None:
        return records.columns(data, indices)
    rows = [
        augment(generator(seed, stream, int(epoch), int(index)), records.own(record))
        for record, epoch, index in zip(records.records(data, indices), epochs, indices, strict=True)
    ]
    return records.stack(rows, indices)


def generator(seed: int, stream: str, *path: int) -> np.random.Generator:
    """The host's random numbers for one place: a Philox Generator keyed by (seed, stream, *path)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *path])))


def check_seed(seed) -> int:
    """The seed as an int; raises UserError unless it fits u32."""
    try:
        seed = operator.index(seed)
    except TypeError:
        raise UserError(f"the seed {seed!r} is not an integer.") from None
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed {seed} does not fit 32 bits; expected 0 to {2**32 - 1}.")
    return seed


def check_size(size) -> int:
    """The batch size as an int; raises UserError unless it is at least 1."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise UserError(f"a batch size of {size!r}; expected a whole number of at least 1.")
    return int(size)
