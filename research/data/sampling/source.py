"""The protocols of training and evaluation sources, and `generated`, a training source from a function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from research.duration import epochs as passes
from research.duration import in_steps
from research.errors import UserError

Batch = Mapping[str, Any]  # same as research.core.Batch, but importable without JAX


class BatchAt(Protocol):
    """Batches as a pure function of the step: random access in any order, from any number of processes.

    `rows` (a slice or an array of row numbers) selects the rows of the global batch that a process holds. Only those
    are read. The rows of all processes form the global batch, bit for bit.
    """

    def __call__(self, step: int, rows=slice(None)) -> Batch: ...


@runtime_checkable
class TrainingSource(Protocol):
    """The protocol of `Experiment.source`: `source(seed)` is a BatchAt with an unlimited number of steps.

    size: examples (rows) in a global batch
    examples: examples in an epoch; None if there are no epochs
    data: the underlying data set, for checks and galleries; None if there is none, or several
    """

    size: int
    examples: int | None
    data: Any

    def __call__(self, seed: int) -> BatchAt: ...


@runtime_checkable
class EvaluationSource(Protocol):
    """The protocol of `Eval.source`: a BatchAt of `len(source)` batches with padding and a `mask` (0 is padding).

    size: rows in a batch
    examples: the number of examples, without padding
    data: the underlying data set, in order; None if there is none
    """

    size: int
    examples: int
    data: Any

    def __len__(self) -> int: ...

    def __call__(self, step: int, rows=slice(None)) -> Batch: ...


def epoch_steps(source: TrainingSource, epochs: float) -> int:
    """Return the optimizer steps of `epochs` passes over the examples, rounded.

    Sources have it as the method `source.steps(epochs)`. Raises UserError for a source without epochs.
    """
    return in_steps(passes(epochs), batch_size=source.size, epoch_examples=source.examples)


@dataclasses.dataclass(frozen=True)
class Generated:
    """A TrainingSource whose batches come from a function; created by `generated`."""

    make: Callable[[int], Callable[[int], Batch]]
    size: int
    examples: int | None = None
    data: Any = None

    steps = epoch_steps

    def __call__(self, seed: int) -> BatchAt:
        """Return the BatchAt of a seed."""
        batch_at = self.make(seed)

        def rows_at(step, rows=slice(None)):
            batch = batch_at(step)
            if isinstance(rows, slice) and rows == slice(None):
                return batch
            return {name: np.asarray(values)[rows] for name, values in batch.items()}

        return rows_at


def generated(make: Callable[[int], Callable[[int], Batch]], size: int, *, examples: int | None = None) -> Generated:
    """Create a TrainingSource from a function: `make(seed)(step)` returns a global batch {field: [size, ...]}.

    The function must be pure in seed and step. Each process computes the global batch and keeps its own rows.
    `examples` is the number of examples in an epoch; durations in epochs need it.
    """
    return Generated(make, size, examples)


def data_sets(source) -> dict[str, Any]:
    """Return the data sets that a source reads, by name: a single one has the name "".

    A source of several has the property `data_sets`; another source without a data set gives {}.
    """
    if hasattr(source, "data_sets"):
        return dict(source.data_sets)
    return {} if source.data is None else {"": source.data}


def check_evaluation_source(name: str, source):
    """Raise UserError unless the source of the evaluation `name` is an EvaluationSource."""
    if not isinstance(source, EvaluationSource):
        missing = [field for field in ("size", "examples", "data", "__len__") if not hasattr(source, field)]
        raise UserError(
            f"the source of the evaluation {name!r} is {source!r}, which lacks {', '.join(missing) or '__call__'}. "
            "Expected an EvaluationSource, such as eval_batches(data, size)."
        )


def check_source(source, *, stride: int):
    """Raise UserError unless `source` is a TrainingSource, whose batches have one shape if `stride` exceeds 1."""
    if not isinstance(source, TrainingSource):
        missing = [name for name in ("size", "examples", "data") if not hasattr(source, name)]
        raise UserError(
            f"Experiment(source=) is {source!r}, which lacks {', '.join(missing) or '__call__'}. Expected a "
            "TrainingSource, such as batches(data, size), or research.data.generated(make, size) for a function."
        )
    if stride > 1 and (forms := getattr(source, "forms", 1)) > 1:
        raise UserError(f"stride={stride}: batches by length have {forms} shapes and do not stack; use stride=1.")
