"""`metrics.jsonl`: the metrics of a run, which an interrupted and resumed run reproduces bit for bit."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


class Record:
    """A writer of `metrics.jsonl`: one line per interval or evaluation, without wall-clock times. A context manager."""

    def __init__(self, path):
        self.path = Path(path)
        self._file = open(self.path, "a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]):
        """Append the line `{"step": step, ...}`; a value that is not finite is written as null."""
        line = {"step": step, **{k: (v if math.isfinite(v) else None) for k, v in sorted(values.items())}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> int:
        """Flush the file to disk and return its length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def cut(self, length: int):
        """Truncate the file to `length` bytes. A restarted run writes the later lines again."""
        self._file.flush()
        os.truncate(self.path, length)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        # On a full disk, closing fails to write the buffer; the run has already failed for this reason.
        with contextlib.suppress(*(() if error is None else (OSError,))):
            self._file.close()


class Unrecorded:
    """A Record that writes nothing, for all processes of a job except rank 0."""

    def write(self, step: int, values: Mapping[str, float]):
        """Do nothing."""

    def sync(self) -> int:
        """Return 0. Only rank 0 writes the metadata of a checkpoint, which hold the length of the record."""
        return 0

    def cut(self, length: int):
        """Do nothing."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        pass
