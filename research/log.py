"""What a run tells while it goes on: the events, the exact record, and the writers that subscribe.

The loop names none of its listeners: it calls `tell(event)`, and a subscriber is any function of an event.
`metrics.jsonl` is apart: it is part of what a restart reproduces bit for bit, so the loop cuts and syncs it.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.gauges import compilations, memory


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


class Record:
    """`metrics.jsonl`, to be used in a `with`: a line for each interval and evaluation, free of wall-clock figures."""

    def __init__(self, path):
        self.path = Path(path)
        self._file = open(self.path, "a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]):
        """Appends `{"step": step, ...}`; numbers that are not finite are written as null."""
        line = {"step": step, **{k: (v if math.isfinite(v) else None) for k, v in sorted(values.items())}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> int:
        """The length in bytes, once it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def cut(self, length: int):
        """Drops all after the first `length` bytes: lines that a restart will write again."""
        self._file.flush()
        os.truncate(self.path, length)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        # A full disk cannot take what is still buffered; the run has failed of that already.
        with contextlib.suppress(*(() if error is None else (OSError,))):
            self._file.close()


class Unrecorded:
    """In place of a Record, for the processes that write nothing: all but one of a job."""

    def write(self, step: int, values: Mapping[str, float]):
        """Nothing."""

    def sync(self) -> int:
        """0; the metadata of a checkpoint are those of the process that writes."""
        return 0

    def cut(self, length: int):
        """Nothing."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        pass


def timing_writer(path):
    """A subscriber that keeps `timing.jsonl`: wall-clock figures and events, with the time of each; of an interval also
    the `memory` (bytes, the most so far) and the seconds of `compiling` (see `research.gauges`).
    """
    file = open(path, "a", encoding="utf-8")
    compiled, close = compilations()

    def write(event):
        match event:
            case Interval():
                line = {"step": event.step, **event.timing, "memory": memory(), "compiling": compiled()}
            case Evaluated():
                line = {"step": event.step, "event": "evaluated", "text": event.name, **event.results.timing}
            case Saved():
                line = {"step": event.step, "event": "saved"}
            case Noted():
                line = {"step": event.step, "event": "noted", "text": event.text}
            case Started():
                line = {"step": event.step, "event": "started", "total": event.total}
            case Ended():
                line = {"step": event.step, "event": event.status, "text": event.text}
        print(json.dumps({**line, "time": time.time()}), file=file, flush=True)
        if isinstance(event, Ended):
            file.close()
            close()

    return write


def scalar_writer(write: Callable[[int, Mapping[str, float]], None], close: Callable[[], None]):
    """A subscriber for any tracker that takes numbers by name: the one interface of all of them.

    `write(step, {name: number})` is called for each interval and evaluation, `close()` at the end.
    """

    def listen(event):
        match event:
            case Interval():
                write(event.step, {f"train/{k}": v for k, v in event.metrics.items()})
                write(event.step, {f"timing/{k}": v for k, v in event.timing.items()})
            case Evaluated():
                write(event.step, {f"{event.name}/{k}": v for k, v in event.results.numbers.items()})
            case Ended():
                close()

    return listen
