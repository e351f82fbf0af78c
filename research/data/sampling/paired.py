"""Labelled batches with unlabelled examples beside them, as one Source that is still random-access."""

import dataclasses
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.sampling.batches import Batches, check_seed, check_size, positions, walk
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Paired:
    """Batches of `labelled`, each example with `ratio` records of `unlabelled` beside it; made by `paired`."""

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
    def size(self) -> int:
        """Labelled examples in a batch."""
        return self.labelled.size

    @property
    def examples(self) -> int:
        """Labelled records in an epoch."""
        return self.labelled.examples

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        labelled_at = self.labelled(seed)
        order = walk(self.unlabelled, seed=check_seed(seed), stream=f"shuffle/{self.name}", shuffle=True)

        def batch_at(step, rows=slice(None)):
            batch = labelled_at(step, rows)
            where = positions(step, self.size, rows)[:, None] * self.ratio + np.arange(self.ratio)
            _, indices = order(where.reshape(-1))
            found = records.columns(self.unlabelled, indices)[self.inputs]
            return {**batch, self.name: found.reshape(*where.shape, *found.shape[1:])}

        return batch_at


def paired(
    labelled: Batches, unlabelled, *, ratio: int, inputs: str = "image", name: str = "unlabelled"
) -> Paired:  # fmt: skip
    """Training batches for learning from few labels: those of `labelled` (made by `batches`, [B, ...]) with one more
    field `name`, [B, ratio, ...]: the field `inputs` of records of the data set `unlabelled`.

    Both are walked through in permutations of their own, each record once in each of its epochs; lengths in epochs
    count labelled ones. No other field of the unlabelled records, so no label of theirs, gets into a batch. `rows` as
    in `batches`. Raises UserError for a ratio below 1, empty data, a field that is missing or named twice.
    """
    records.size_of(unlabelled, what="the unlabelled set")
    ratio = check_size(ratio)
    first = records.columns(unlabelled, np.zeros(1, np.int64))
    if inputs not in first:
        raise UserError(f"the unlabelled records have no field {inputs!r}; they have {sorted(first)}.")
    if name in records.columns(labelled.data, np.zeros(1, np.int64)):
        raise UserError(f"the labelled records have a field {name!r} already; give paired(..., name=) another.")
    return Paired(labelled, unlabelled, ratio, inputs, name)
