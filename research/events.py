"""The events of a run. The loop calls `tell(event)` for each; a subscriber is any function of an event."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Started(NamedTuple):
    """The loop starts at `step` of `total`. `position()` returns the current step, for a live display."""

    step: int
    total: int
    position: Callable[[], int]


class Interval(NamedTuple):
    """The mean metrics of the interval that ended at `step`, and its wall-clock times and rates."""

    step: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


class Evaluated(NamedTuple):
    """An evaluation at `step` is complete; `results` is an `evaluate.Results`."""

    step: int
    name: str
    results: Any


class Saved(NamedTuple):
    """The background write of the checkpoint of `step` has started."""

    step: int


class Message(NamedTuple):
    """A message for the user: a restart, a damaged checkpoint, a warning."""

    step: int
    text: str


class Ended(NamedTuple):
    """The loop has ended. `status` is "finished", "preempted" or "failed"; `results` are the last evaluations.

    `text` is the error message of a failed run.
    """

    step: int
    status: str
    results: Mapping[str, Mapping[str, float]]
    text: str = ""
