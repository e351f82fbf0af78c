"""Consecutive training data sets as one Source, for continual learning."""

import bisect
import dataclasses
import itertools
from typing import Any

from research.data.sampling.source import data_sets, epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The batches of consecutive `parts`; created by `in_sequence`. `starts` has the first step of each part."""

    parts: tuple[Any, ...]
    starts: tuple[int, ...]

    data = None  # a sequence has no single data set
    steps = epoch_steps

    @property
    def data_sets(self):
        """The data sets of all parts; their names begin with the number of the part."""
        parts = enumerate(data_sets(part) for part in self.parts)
        return {f"{i}{name and '/'}{name}": data for i, part in parts for name, data in part.items()}

    @property
    def size(self) -> int:
        """The number of records in a batch."""
        return self.parts[0].size

    @property
    def examples(self) -> int:
        """The total number of records of all parts."""
        return sum(part.examples for part in self.parts)

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        sources = [part(seed) for part in self.parts]

        def batch_at(step, rows=slice(None)):
            number = bisect.bisect_right(self.starts, step) - 1
            return sources[number](step - self.starts[number], rows)

        return batch_at


def in_sequence(parts, *, steps) -> Sequence:
    """Create training batches of consecutive `parts`, each made by `batches` or similar: `steps[i]` batches of part i.

    The last part continues indefinitely, thus its number of steps has no effect. All parts get the same seed. Raises
    UserError for no parts, a number of steps that differs from the number of parts, a part of fewer than 1 step, and
    different batch sizes.
    """
    parts, steps = tuple(parts), tuple(steps)
    if not parts or len(parts) != len(steps) or min(steps) < 1:
        raise UserError(f"{len(parts)} parts in sequence with the steps {list(steps)}; expected at least 1 for each.")
    if len({part.size for part in parts}) > 1:
        raise UserError(f"the parts of a sequence have the sizes {[part.size for part in parts]}; expected one size.")
    return Sequence(parts, (0, *itertools.accumulate(steps[:-1])))
