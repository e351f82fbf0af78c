"""`metrics.jsonl`: the metrics of a run, which an interrupted and resumed run reproduces bit for bit.

A checkpoint seals the record: it stores the length and a checksum of the lines up to its step. A restart verifies them.
"""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from research.files import atomic_write, number, sync_tree


class Record:
    """A writer of `metrics.jsonl`: one line per interval or evaluation, without wall-clock times. A context manager."""

    def __init__(self, path):
        self.path = Path(path)
        self._open()

    def _open(self):
        self._file = open(self.path, "ab")
        data = self.path.read_bytes()
        self._seal = {"bytes": len(data), "crc32": zlib.crc32(data)}

    def write(self, step: int, values: Mapping[str, float]):
        """Append the line `{"step": step, ...}`; a value that is not finite is written as null."""
        values = {"step": step, **{k: (v if math.isfinite(v) else None) for k, v in sorted(values.items())}}
        line = f"{json.dumps(values)}\n".encode()
        self._file.write(line)
        self._file.flush()
        self._seal = {"bytes": self._seal["bytes"] + len(line), "crc32": zlib.crc32(line, self._seal["crc32"])}

    def sync(self) -> dict[str, int]:
        """Flush the file to disk and return its seal for a checkpoint: its length in `bytes` and its `crc32`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._seal

    def cut(self, meta: Mapping) -> str:
        """Remove the lines after those that the metadata of a checkpoint seal; a restarted run writes them again.

        If the sealed lines have changed, a copy of the file is moved to `damaged/`, the lines that can be read stay,
        and the result describes the damage. Otherwise it is "".
        """
        self._file.close()
        data = self.path.read_bytes()
        if problem := damage(data, meta):
            copy = self._set_aside(data)
            lines = data[: meta["bytes"]].splitlines(keepends=True)
            good = [line for line in lines if (read := parse_line(line)) and read["step"] <= meta["step"]]
            with atomic_write(self.path) as part:
                part.write_bytes(b"".join(good))
            problem += f" {len(good)} of {len(lines)} lines can be read and stay; {copy} is a copy of the file."
        else:
            os.truncate(self.path, meta["bytes"])
        self._open()
        return problem

    def _set_aside(self, data):
        """Write a copy of the damaged file to disk, before the file is changed."""
        folder = self.path.parent / "damaged"
        folder.mkdir(exist_ok=True)
        copy = folder / f"metrics-{len(list(folder.glob('metrics-*.jsonl')))}.jsonl"
        copy.write_bytes(data)
        sync_tree(folder)
        return copy.relative_to(self.path.parent)

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

    def sync(self) -> dict[str, int]:
        """Return an empty seal. Only rank 0 writes the metadata of a checkpoint."""
        return {}

    def cut(self, meta: Mapping) -> str:
        """Do nothing."""
        return ""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        pass


def damage(data: bytes, meta: Mapping) -> str:
    """Describe how a record differs from the one that the metadata of a checkpoint seal; "" if it does not."""
    step, length = meta["step"], meta["bytes"]
    if len(data) < length:
        return f"metrics.jsonl has {len(data)} bytes; it had {length} when the checkpoint of step {step} was saved."
    checksum = zlib.crc32(data[:length])
    if meta.get("crc32", checksum) != checksum:  # earlier versions saved none
        return f"metrics.jsonl was changed after the checkpoint of step {step}: the checksum in it does not match."
    return ""


def parse_line(line: bytes) -> dict | None:
    """Parse a line of `metrics.jsonl` or `timing.jsonl`; None if it is damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and number(value.get("step")) is not None else None
