"""Labelled batches with additional unlabelled examples, as one random-access Source."""

import dataclasses
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import Batches, check_seed, check_size, positions, walk
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Paired:
    """Batches of `labelled` with `ratio` records of `unlabelled` per example; created by `paired`."""

    labelled: Batches
    unlabelled: Any
    ratio: int
    inputs: str
    name: str

    steps = epoch_steps

    @property
    def data(self):
        """The labelled records."""
        return self.labelled.data

    @property
    def data_sets(self):
        """The labelled and the unlabelled records, by name."""
        return {"": self.data, self.name: self.unlabelled}

    @property
    def size(self) -> int:
        """The number of labelled examples in a batch."""
        return self.labelled.size

    @property
    def examples(self) -> int:
        """The number of labelled records in an epoch."""
        return self.labelled.examples

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        labelled_at = self.labelled(seed)
        order = walk(self.unlabelled, seed=check_seed(seed), stream=f"shuffle/{self.name}", shuffle=True)

        def batch_at(step, rows=slice(None)):
            batch = labelled_at(step, rows)
            places = positions(step, self.size, rows)[:, None] * self.ratio + np.arange(self.ratio)
            _, indices = order(places.reshape(-1))
            examples = records.columns(self.unlabelled, indices)[self.inputs]
            return {**batch, self.name: examples.reshape(*places.shape, *examples.shape[1:])}

        return batch_at


def paired(
    labelled: Batches, unlabelled, *, ratio: int, inputs: str = "image", name: str = "unlabelled"
) -> Paired:  # fmt: skip
    """Create training batches for semi-supervised learning: labelled batches plus unlabelled examples.

    To the batches of `labelled` (made by `batches`, [B, ...]) it adds the field `name`, [B, ratio, ...]: the field
    `inputs` of records of the data set `unlabelled`. Each data set has its own permutations, with every record once in
    each of its own epochs. Durations in epochs count labelled records. No other field of the unlabelled records enters
    a batch, thus none of their labels. `rows` as in `batches`.
    Raises UserError for a ratio below 1, empty data, a missing field `inputs`, and a field `name` that exists already.
    """
    unlabelled = data_set(unlabelled, what="the unlabelled set")
    ratio = check_size(ratio)
    first = records.columns(unlabelled, np.zeros(1, np.int64))
    if inputs not in first:
        raise UserError(f"the unlabelled records have no field {inputs!r}; they have {sorted(first)}.")
    if name in records.columns(labelled.data, np.zeros(1, np.int64)):
        raise UserError(f"the labelled records have a field {name!r} already; pass another paired(..., name=).")
    return Paired(labelled, unlabelled, ratio, inputs, name)
