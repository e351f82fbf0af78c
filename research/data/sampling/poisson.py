"""Poisson sampling for private training: each record is in a batch independently, with a fixed probability."""

import bisect
import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import check_seed, check_size, generator, read
from research.duration import epochs as passes
from research.duration import in_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Training batches of a random number of records, padded to `size` rows; created by `poisson`.

    Calling it with a seed returns a Source.
    """

    data: Any
    expected: float
    size: int
    augment: Callable | None = None

    def steps(self, epochs: float) -> int:
        """Return the optimizer steps of `epochs` expected passes over the records, rounded."""
        return in_steps(passes(epochs), batch_size=self.expected, epoch_examples=self.examples)

    @property
    def examples(self) -> int:
        """The number of records in the data."""
        return len(self.data)

    @property
    def rate(self) -> float:
        """The probability that a record is in a batch."""
        return self.expected / len(self.data)

    def __call__(self, seed: int):
        """Return the Source of a seed: `batch_at(step, rows=slice(None)) -> {field: [rows, ...], "mask": [rows]}`."""
        seed = check_seed(seed)

        def batch_at(step, rows=slice(None)):
            step = operator.index(step)
            chosen = np.flatnonzero(generator(seed, "poisson", step).random(len(self.data)) < self.rate)
            if len(chosen) > self.size:
                raise UserError(
                    f"step {step} drew {len(chosen)} records, more than the capacity of {self.size} for an expected "
                    f"{self.expected:g}. Dropping records would break the privacy guarantee; use the capacity from "
                    "capacity_for(...)."
                )
            indices = np.full(self.size, chosen[0] if len(chosen) else 0)
            indices[: len(chosen)] = chosen
            indices, real = indices[rows], (np.arange(self.size) < len(chosen))[rows]
            steps = np.full(len(indices), step)
            fields = records.numbers(read(self.data, indices, epochs=steps, augment=self.augment, seed=seed))
            if "mask" in fields:
                raise UserError("the records have a field 'mask', which poisson adds; rename it with mapped(data, fn).")
            return {**fields, "mask": real.astype(np.float32)}

        return batch_at


def poisson(data, *, expected: float, capacity: int, augment=None) -> Poisson:
    """Create training batches by Poisson sampling (Abadi et al. 2016, section 3.1).

    At every step, each record is in the batch with probability expected / len(data), independently of other records and
    steps. `poisson(data, ...)(seed)(step)` is {field: [capacity, ...], "mask": f32 [capacity]}, pure and random-access.
    The first rows are the sampled records, in the order of the data, with mask 1. Padding has mask 0 and repeats the
    first sampled record (or record 0 if the batch is empty), thus has valid values. `augment(rng, record)` runs on the
    host with a generator keyed by (seed, step, record index). `rows` as in `batches`: the batch is the same for any
    number of processes.

    Trap: `size` is the capacity, thus a Duration in epochs would be too short. Give the Experiment a number of steps,
    such as `source.steps(20)` for 20 epochs.

    Raises UserError for empty data, `expected` out of range, a capacity below it, and records with a field `mask`. A
    step raises UserError if it samples more records than the capacity.
    """
    data = data_set(data)
    count = len(data)
    if not 0 < expected <= count:
        raise UserError(f"an expected batch of {expected} of {count} records; expected above 0 and at most {count}.")
    if check_size(capacity) < expected:
        raise UserError(
            f"a capacity of {capacity} for an expected batch of {expected:g}; use the capacity from capacity_for(...)."
        )
    return Poisson(data, expected, int(capacity), augment)


def capacity_for(*, examples: int, expected: float, steps: int, failure: float = 1e-9, multiple: int = 1) -> int:
    """Return the smallest capacity that suffices for all `steps` batches with probability 1 - `failure`.

    The capacity is rounded up to a multiple of `multiple`. By the union bound, it satisfies
    P(Binomial(examples, expected / examples) > capacity) <= failure / steps. Raises UserError for arguments out of
    range.
    """
    from scipy.stats import binom

    if not 0 < expected <= examples or steps < 1 or not 0 < failure < 1 or multiple < 1:
        raise UserError(
            f"a capacity for expected={expected} of examples={examples}, steps={steps}, failure={failure}, "
            f"multiple={multiple}: expected must be above 0 and at most examples, steps and multiple at least 1, "
            "and failure a probability."
        )
    # Trap: binom.isf(p) computes 1 - p, which is 1 for p below 1e-16.
    sufficient = lambda capacity: binom.sf(capacity, examples, expected / examples) <= failure / steps
    needed = max(1, bisect.bisect_left(range(examples), True, key=sufficient))
    return math.ceil(needed / multiple) * multiple
