"""Training data sets one after another, as one Source: what continual learning is about."""

import bisect
import dataclasses
import itertools
from typing import Any

from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The batches of `parts` one after another; made by `in_sequence`. `starts` are the steps at which each begins."""

    parts: tuple[Any, ...]
    starts: tuple[int, ...]

    data = None  # there are several
    steps = epoch_steps

    @property
    def size(self) -> int:
        """Records in a batch."""
        return self.parts[0].size

    @property
    def examples(self) -> int:
        """Records of all parts together."""
        return sum(part.examples for part in self.parts)

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(step, rows=slice(None)) -> {field: [rows, ...]}`."""
        sources = [part(seed) for part in self.parts]

        def batch_at(step, rows=slice(None)):
            number = bisect.bisect_right(self.starts, step) - 1
            return sources[number](step - self.starts[number], rows)

        return batch_at


def in_sequence(parts, *, steps) -> Sequence:
    """Training batches of `parts`, each made by `batches` or the like: `steps[i]` of the i-th, then those of the next.

    The last part goes on for ever, so its number of steps says nothing. All parts see the same seed. Raises UserError
    for no parts, another number of steps than parts, a part of no steps, and different batch sizes.
    """
    parts, steps = tuple(parts), tuple(steps)
    if not parts or len(parts) != len(steps) or min(steps) < 1:
        raise UserError(f"{len(parts)} parts in sequence with the steps {list(steps)}; expected at least 1 for each.")
    if len({part.size for part in parts}) > 1:
        raise UserError(f"the parts of a sequence have different batch sizes: {[part.size for part in parts]}.")
    return Sequence(parts, (0, *itertools.accumulate(steps[:-1])))
