"""Batches as pure functions of the step: random access, the same for any number of processes, no state to restore.

The training sequence is infinite. Its position p = step * size + row is record permutation(seed, epoch)[p % n] of epoch
p // n. A run resumed at any step therefore reads the same batches as an uninterrupted run.
"""

import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.readers.table import check_numbers
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batches:
    """Training batches of `size` records; calling it with a seed returns a Source. Created by `batches`."""

    data: Any
    size: int
    augment: Callable | None = None
    shuffle: bool = True

    steps = epoch_steps

    @property
    def examples(self) -> int:
        """The number of records in an epoch."""
        return len(self.data)

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        seed = check_seed(seed)
        order = walk(self.data, seed=seed, stream="shuffle", shuffle=self.shuffle)

        def batch_at(step, rows=slice(None)):
            epochs, indices = order(positions(step, self.size, rows))
            return records.numbers(read(self.data, indices, epochs=epochs, augment=self.augment, seed=seed))

        return batch_at


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """Evaluation batches of `size` records in order, each record once; created by `eval_batches`."""

    data: Any
    size: int

    @property
    def examples(self) -> int:
        """The number of records, without padding."""
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
    """Create training batches: `batches(data, size)(seed)(step)` is {field: [size, ...]}, pure and random-access.

    Every record occurs exactly once per epoch. **The last batch of an epoch continues with records of the next epoch**:
    no record is dropped or repeated within an epoch, and a batch may be larger than the data. With `shuffle=False`,
    records keep their order.
    `augment(rng, record) -> record` runs on the host. `rng` is a numpy Generator keyed by (seed, epoch, record index),
    independent of process and thread. The record is a copy that it may modify. String fields reach `augment`, but not
    the batch.
    `rows` (a slice or an array of row numbers) selects the rows of the global batch that a process holds. Only those
    are read. The rows of all processes form the global batch, bit for bit.

    The order comes from numpy's Philox generator. It may change with the version of numpy, but not with the machine.
    Raises UserError for empty data, a size below 1, records that do not stack, and a table with text.
    """
    check_numbers(data)
    return Batches(data_set(data), check_size(size), augment, shuffle)


def eval_batches(data, size: int) -> EvalBatches:
    """Create evaluation batches: `eval_batches(data, size)(i)` is {field: [size, ...], "mask": f32 [size]}, i < len.

    Each record occurs once, in order. The last batch is padded with copies of its first record, thus padding has valid
    values. Every batch has `mask`: 1 for a record, 0 for padding. `rows` as in `batches`.
    Raises UserError for empty data, a size below 1, and records that do not stack or have a field `mask`.
    """
    check_numbers(data)
    return EvalBatches(data_set(data, what="the evaluation set"), check_size(size))


def positions(step: int, size: int, rows=slice(None)) -> np.ndarray:
    """Return the positions of the selected rows of batch `step` in the infinite sequence, i64 [rows]."""
    return operator.index(step) * size + np.arange(size, dtype=np.int64)[rows]


def walk(data, *, seed: int, stream: str, shuffle: bool):
    """Return a function, positions [m] -> (epochs [m], record indices [m]), that covers `data` once per epoch.

    It caches the permutations of the last two epochs and is thread-safe.
    """
    count = len(data)

    @functools.lru_cache(maxsize=2)
    def permutation(epoch):
        return generator(seed, stream, epoch).permutation(count)

    def locate(positions):
        epochs, offsets = np.divmod(positions, count)
        if not shuffle:
            return epochs, offsets
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            in_epoch = epochs == epoch
            indices[in_epoch] = permutation(int(epoch))[offsets[in_epoch]]
        return epochs, indices

    return locate


def read(data, indices, *, epochs, augment, seed, stream="augment") -> dict[str, np.ndarray]:
    """Read the records at `indices` as one array per field; each record's augmentation is keyed by epoch and index."""
    if augment is None:
        return records.columns(data, indices)
    rows = [
        augment(generator(seed, stream, int(epoch), int(index)), records.own(record))
        for record, epoch, index in zip(records.records(data, indices), epochs, indices, strict=True)
    ]
    return records.stack(rows, indices)


def generator(seed: int, stream: str, *path: int) -> np.random.Generator:
    """Create a random generator for the host: a Philox Generator keyed by (seed, stream, *path)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *path])))


def check_seed(seed) -> int:
    """Return the seed as an int; raises UserError unless it fits u32."""
    try:
        seed = operator.index(seed)
    except TypeError:
        raise UserError(f"the seed {seed!r} is not an integer; expected 0 to {2**32 - 1}.") from None
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed {seed} does not fit 32 bits; expected 0 to {2**32 - 1}.")
    return seed


def check_size(size) -> int:
    """Return the batch size as an int; raises UserError unless it is an integer of at least 1."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise UserError(f"a batch size of {size!r}; expected an integer of at least 1.")
    return int(size)
