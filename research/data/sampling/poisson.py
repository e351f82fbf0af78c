"""Poisson sampling: batches in which every record is by a coin of its own, as private training needs them."""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.sampling.batches import check_seed, check_size, generator, read
from research.duration import epochs as passes
from research.duration import in_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Training batches of a random number of records, padded to `size` rows; a Source for every seed. Made by
    `poisson`.
    """

    data: Any
    expected: float
    size: int
    augment: Callable | None = None

    def steps(self, epochs: float) -> int:
        """The optimizer steps that `epochs` expected passes over the records take, rounded."""
        return in_steps(passes(epochs), batch_size=self.expected, epoch_examples=self.examples)

    @property
    def examples(self) -> int:
        """Records in the data."""
        return len(self.data)

    @property
    def rate(self) -> float:
        """The probability of a record to be in a batch."""
        return self.expected / len(self.data)

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...], "mask": [rows]}`."""
        seed = check_seed(seed)

        def batch_at(step, rows=slice(None)):
            step = operator.index(step)
            chosen = np.flatnonzero(generator(seed, "poisson", step).random(len(self.data)) < self.rate)
            if len(chosen) > self.size:
                raise UserError(
                    f"step {step} drew {len(chosen)} records, more than the capacity of {self.size} for an expected "
                    f"{self.expected:g}. To drop some would break the privacy promised: take the capacity that "
                    "capacity_for(...) gives."
                )
            indices = np.full(self.size, chosen[0] if len(chosen) else 0)
            indices[: len(chosen)] = chosen
            indices, real = indices[rows], (np.arange(self.size) < len(chosen))[rows]
            steps = np.full(len(indices), step)
            fields = records.numbers(read(self.data, indices, epochs=steps, augment=self.augment, seed=seed))
            if "mask" in fields:
                raise UserError(
                    "the records have a field 'mask', which poisson adds by itself; rename it with mapped()."
                )
            return {**fields, "mask": real.astype(np.float32)}

        return batch_at


def poisson(data, *, expected: float, capacity: int, augment=None) -> Poisson:
    """Training batches by Poisson sampling: at every step each record is in the batch with probability
    expected / len(data), whatever the others do and whatever came before (Abadi et al. 2016, section 3.1).

    `poisson(data, ...)(seed)(step)` is {field: [capacity, ...], "mask": f32 [capacity]}, pure and random-access. The
    first rows are the records drawn, in the order of the data, with mask 1. Padding repeats the first of them (or
    record 0, in an empty batch), so that it holds valid values; its mask is 0. `augment(rng, record)` runs on the
    host with a generator keyed by (seed, step, record index). `rows` as in `batches`: the batch is the same for any
    number of processes.

    `size` is the capacity, with which a Duration in epochs would be too short: give an Experiment `source.steps(20)`.

    Raises UserError for empty data, an `expected` out of range, a capacity below it, records with a field `mask`;
    and at the step, where more records are drawn than the capacity holds.
    """
    count = records.size_of(data)
    if not 0 < expected <= count:
        raise UserError(f"an expected batch of {expected} of {count} records; expected more than 0, at most all.")
    if check_size(capacity) < expected:
        raise UserError(f"a capacity of {capacity} for an expected batch of {expected:g}; see capacity_for(...).")
    return Poisson(data, expected, int(capacity), augment)


def capacity_for(*, examples: int, expected: float, steps: int, failure: float = 1e-9, multiple: int = 1) -> int:
    """The least capacity, a multiple of `multiple`, that all `steps` batches fit with probability 1 - `failure`.

    By the union bound: P(Binomial(examples, expected / examples) > capacity) <= failure / steps.
    """
    from scipy.stats import binom

    if not 0 < expected <= examples or steps < 1 or not 0 < failure < 1 or multiple < 1:
        raise UserError(
            f"a capacity for expected={expected} of examples={examples}, steps={steps}, failure={failure}, "
            f"multiple={multiple}: expected must be above 0 and at most examples, steps and multiple at least 1, "
            "and failure a probability."
        )
    needed = max(1, int(binom.isf(failure / steps, examples, expected / examples)))
    return math.ceil(needed / multiple) * multiple
