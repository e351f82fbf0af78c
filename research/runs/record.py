"""`metrics.jsonl`: the exact record of a run, part of what a restart reproduces bit for bit."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


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
