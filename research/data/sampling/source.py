"""What a run reads: the protocols of training and evaluation data, and a training source from a function of yours."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from research.duration import epochs as passes
from research.duration import in_steps
from research.errors import UserError

Batch = Mapping[str, Any]  # as research.core.Batch, without JAX: importing the data is cheap


class BatchAt(Protocol):
    """Batches as a pure function of the step: random access in any order, by any number of processes.

    `rows` (a slice or an array of row numbers) picks the rows of the global batch that a process holds. Only those are
    read, and the rows of all processes make up the global batch bit for bit.
    """

    def __call__(self, step: int, rows=slice(None)) -> Batch: ...


@runtime_checkable
class TrainingSource(Protocol):
    """What `Experiment.source` is: `source(seed)` is a BatchAt without an end.

    size: examples (rows) of a global batch
    examples: examples of an epoch; None if there are no epochs
    data: the data set behind it, for checks and galleries; None if there is none, or several
    """

    size: int
    examples: int | None
    data: Any

    def __call__(self, seed: int) -> BatchAt: ...


@runtime_checkable
class EvaluationSource(Protocol):
    """What `Eval.source` is: a BatchAt of `len(source)` batches, padded and with a `mask` (0 is padding).

    size: rows of a batch
    examples: examples that count, padding left out
    data: the data set behind it, in order; None if there is none
    """

    size: int
    examples: int
    data: Any

    def __len__(self) -> int: ...

    def __call__(self, step: int, rows=slice(None)) -> Batch: ...


def epoch_steps(source: TrainingSource, epochs: float) -> int:
    """The optimizer steps of `epochs` passes over the examples, rounded. Sources have it as `source.steps(epochs)`.

    Raises UserError for a source without epochs.
    """
    return in_steps(passes(epochs), batch_size=source.size, epoch_examples=source.examples)


@dataclasses.dataclass(frozen=True)
class Generated:
    """A TrainingSource whose batches a function makes; made by `generated`."""

    make: Callable[[int], Callable[[int], Batch]]
    size: int
    examples: int | None = None
    data: Any = None

    steps = epoch_steps

    def __call__(self, seed: int) -> BatchAt:
        """The BatchAt of a seed."""
        batch_at = self.make(seed)

        def rows_at(step, rows=slice(None)):
            batch = batch_at(step)
            if isinstance(rows, slice) and rows == slice(None):
                return batch
            return {name: np.asarray(values)[rows] for name, values in batch.items()}

        return rows_at


def generated(make: Callable[[int], Callable[[int], Batch]], size: int, *, examples: int | None = None) -> Generated:
    """A TrainingSource from a function: `make(seed)(step)` is a global batch {field: [size, ...]}, pure in both.

    Each process makes the whole batch and keeps its own rows. With `examples`, those of an epoch, lengths may be
    given in epochs.
    """
    return Generated(make, size, examples)


def check_evaluation_source(name: str, source):
    """Raises UserError where the evaluation `name` reads what is no EvaluationSource."""
    if not isinstance(source, EvaluationSource):
        missing = [field for field in ("size", "examples", "data", "__len__") if not hasattr(source, field)]
        raise UserError(
            f"the source of the evaluation {name!r} is {source!r}, which lacks {', '.join(missing) or '__call__'}. "
            "Expected what eval_batches(data, size) makes."
        )


def check_source(source):
    """Raises UserError for what is no TrainingSource."""
    if not isinstance(source, TrainingSource):
        missing = [name for name in ("size", "examples", "data") if not hasattr(source, name)]
        raise UserError(
            f"Experiment(source=) is {source!r}, which lacks {', '.join(missing) or '__call__'}. Expected what "
            "batches(data, size) makes; from a function, research.data.generated(make, size) makes a source."
        )
