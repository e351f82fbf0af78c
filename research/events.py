"""The events of a run. The loop calls `tell(event)` and names no listener; a subscriber is any function of an event."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Started(NamedTuple):
    """The loop begins at `step` of `total`; `position()` is the step it has come to, for a live display."""

    step: int
    total: int
    position: Callable[[], int]


class Interval(NamedTuple):
    """The means of the metrics over the interval that ended at `step`, and its wall-clock figures."""

    step: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


class Evaluated(NamedTuple):
    """One evaluation set was evaluated at `step`; see `evaluate.Results`."""

    step: int
    name: str
    results: Any


class Saved(NamedTuple):
    """A checkpoint of `step` is being written."""

    step: int


class Noted(NamedTuple):
    """Something a person should know: a restart, a damaged checkpoint, a warning."""

    step: int
    text: str


class Ended(NamedTuple):
    """The loop has left: `status` is finished, preempted or failed; `results` are the last evaluations."""

    step: int
    status: str
    results: Mapping[str, Mapping[str, float]]
    text: str = ""
