"""Cut an unbounded source of records with an event time into windows, and write each window as an indexed part."""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from research.data.engines import parts
from research.data.fingerprint import combine, value_bytes
from research.data.preparation import Preparation
from research.data.readers.indexed import INDEX, Indexed, Written, indexed, opened, write_file, write_index
from research.errors import UserError
from research.files import read_json, sync_folder

LATE = 4096  # late records that are held in memory at most


class Event(NamedTuple):
    """A record with its event time and its number in the order of arrival."""

    time: float
    number: int
    record: Mapping


def cut_stream(
    source: Iterable | Callable[[int], Iterable], out, *, time: str, window: float, lateness: float = 0.0,
    fn: Callable | None = None, end: bool = False, classes=None,
) -> Indexed | None:  # fmt: skip
    """Cut the records of a source into windows of event time, and append each closed window to the indexed set `out`.

    source: an iterable of records that gives the same ones again after a restart; or a function of a number n that
      returns the records from the n-th arrival on, such as a consumer that seeks an offset
    time: the field with the event time, a number
    window: the length of a window, in the unit of `time`; window k has the times from k * window up to (k + 1) * window
    lateness: the watermark is the latest time so far less this; a window is closed once the watermark reaches its end
    fn: a pure function of a record, or a preparation, as in `map_records`
    end: whether the end of the source closes all windows; otherwise it is taken for a pause
    classes: the names of the classes of the field `label`

    A record whose window is closed when it arrives is late: it goes to `late_records(out)`, and is in no window. A
    record that arrives while the watermark is not beyond its time is never late; thus the same records give the same
    windows, bit for bit, in any order of arrival within `lateness`. Inside a window, records are in the order of their
    times; equal times are ordered by content. One time far in the future closes all windows before it: drop such
    records before.

    `index.json` is replaced atomically with each window, hence `indexed(out)` works at any time, and the same call
    continues after a kill with the same result. The records of open windows are in memory.

    Return the set, or None while no window is closed. Raises UserError for a record without a time, for an error in
    `fn`, and if `out` was begun with other arguments.
    """
    if not (window > 0 and lateness >= 0 and math.isfinite(window + lateness)):
        raise UserError(
            f"window={window}, lateness={lateness}; expected a window above 0 and a lateness of at least 0."
        )
    fn = _as_given if fn is None else fn
    parts.check_function(fn)
    about = {"time": time, "window": window, "lateness": lateness, "function": parts.identity(fn)}
    if isinstance(fn, Preparation):
        fn = replace(fn, source=None)
        classes = classes or (fn.schema[fn.target].categories or None if fn.target else None)
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    with parts.one_writer(out):
        state = _State(out, about, fn, None if classes is None else tuple(classes))
        for number, record in enumerate(_from(source, state.position), state.position):
            state.arrived(Event(_time(record, time, number), number, record))
        if end and state.open:
            state.close(max(state.open) + 1)
        if state.late:
            state.commit([])
    return indexed(out) if any(written.count for written in state.windows.values()) else None


def late_records(out) -> Indexed | None:
    """Return the late records of a set of `cut_stream`, in the order of arrival; None if there are none."""
    out = Path(out).expanduser()
    index = read_json(out / INDEX) if (out / INDEX).exists() else {}
    if "stream" not in index:
        raise UserError(f"{str(out)!r} is no output of cut_stream.")
    late = {name: _written(saved) for name, saved in index["stream"]["late"].items()}
    files = {name: (written.count, written.bytes) for name, written in parts.joined(late.items()).items()}
    fields = next((written.fields for written in late.values()), None)
    return opened(out, files, {**index, "fields": fields, "content": None}) if files else None


class _State:
    """The open windows, and what `index.json` says of those that are closed.

    position: where a restarted call begins to read
    seen: the number of arrivals that are in a window or late as of the last commit
    latest: the latest time so far
    frontier: the first window that is not closed
    """

    def __init__(self, out: Path, about: Mapping[str, Any], fn, classes):
        self.out, self.about, self.fn, self.classes = out, about, fn, classes
        self.open: dict[int, list[Event]] = {}
        self.late: list[Event] = []
        self.windows: dict[str, Written] = {}
        self.late_files: dict[str, Written] = {}
        self.position, self.seen, self.latest, self.frontier = 0, 0, -math.inf, -math.inf
        if (out / INDEX).exists():
            index = read_json(out / INDEX)
            if "stream" not in index:
                raise UserError(f"{str(out)!r} has other data; choose another folder.")
            was = index["stream"]
            parts.check_same(out, about, was["about"])
            self.position, self.seen = was["position"], was["seen"]
            self.latest, self.frontier = float(was["latest"]), float(was["frontier"])
            self.windows, self.late_files = ({name: _written(w) for name, w in was[key].items()}
                                             for key in ("windows", "late"))  # fmt: skip

    def arrived(self, event: Event):
        """Put a record into its window, or among the late ones, and close the windows that the watermark passed."""
        number = math.floor(event.time / self.about["window"])
        if number >= self.frontier:
            self.open.setdefault(number, []).append(event)
        elif event.number >= self.seen:  # otherwise it was written before the restart
            self.late.append(event)
        if event.number < self.seen:
            return
        self.seen, self.latest = event.number + 1, max(self.latest, event.time)
        self.close(math.floor((self.latest - self.about["lateness"]) / self.about["window"]))

    def close(self, frontier: int):
        """Close the windows below `frontier`."""
        self.frontier = max(self.frontier, frontier)
        closing = sorted(number for number in self.open if number < frontier)
        if closing or len(self.late) >= LATE:
            self.commit(closing)

    def commit(self, closing: list[int]):
        """Write windows and late records, and then the index, which alone makes them part of the set."""
        for number in closing:
            events = sorted(self.open.pop(number), key=lambda event: (event.time, value_bytes(event.record)))
            self._write(f"window-{number:012d}", events, self.windows)
        if self.late:
            self._write(f"late-{self.late[0].number:012d}", self.late, self.late_files)
            self.late = []
        self.position = min((event.number for found in self.open.values() for event in found), default=self.seen)
        parts.joined([*self.windows.items(), *self.late_files.items()])
        stream = {
            "about": self.about, "position": self.position, "seen": self.seen, "latest": str(self.latest),
            "frontier": str(self.frontier), "windows": self.windows, "late": self.late_files,
        }  # fmt: skip
        content = combine([written.content for written in self.windows.values()])
        files = {name: written for name, written in self.windows.items() if written.count}
        write_index(self.out, files, content=content, classes=self.classes, origin=None, stream=stream)
        sync_folder(self.out)

    def _write(self, name, events, files):
        name = f"{name}.array_record"
        partial = self.out / f".{name}"
        # All at once, thus in an order that does not depend on the arrival.
        records, numbers = [event.record for event in events], [event.number for event in events]
        files[name] = write_file(parts.applied(self.fn, records, numbers), partial)
        if files[name].count:
            os.replace(partial, self.out / name)
        else:
            partial.unlink()


def _as_given(record):
    return record


def _from(source, position) -> Iterator:
    return iter(source(position)) if callable(source) else itertools.islice(source, position, None)


def _time(record, field, number) -> float:
    value = record.get(field) if isinstance(record, Mapping) else None
    if not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(f"record {number}: its time {field!r} is {value!r}; expected a finite number.")
    return float(value)


def _written(values) -> Written:
    count, size, fields, content = values
    return Written(count, size, None if fields is None else tuple(fields), content)
