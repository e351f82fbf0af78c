"""The journal of a sweep: a line of JSON for every change of its study, appended by all workers under a lock.

A full disk or a killed worker leaves a part of a line. Its writer had an error, or died, before it relied on the line.
The part therefore goes to `<journal>.damaged`, and the journal continues with the next line.
"""

import io
import json
import os
import sys
from pathlib import Path

from research.errors import UserError
from research.files import atomic_write

GRACE = 5  # seconds after which the lock is broken, because a worker died while writing
BEGIN = b'{"op_code"'  # of every line; inside a string its quotes would be escaped


class JournalLock:
    """The lock of a journal for optuna, which sets an incomplete last line aside before the next one is appended."""

    def __init__(self, path):
        from optuna.storages.journal import JournalFileSymlinkLock

        self.path, self._lock = Path(path), JournalFileSymlinkLock(str(path), grace_period=GRACE)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        try:
            if not _ends_whole(self.path):
                _set_aside_parts(self.path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self):
        """Release the lock."""
        self._lock.release()

    def repair(self):
        """Set aside every part of a line, also one to which an earlier version appended a line.

        Raises UserError for a damaged line that is no such part.
        """
        self.acquire()
        try:
            if self.path.exists():
                _set_aside_parts(self.path)
        finally:
            self.release()


def _ends_whole(path):
    if not path.exists() or not path.stat().st_size:
        return True
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _set_aside_parts(path):
    text, whole, parts = path.read_bytes(), b"", []
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.endswith(b"\n") and _is_json(line):
            whole += line
            continue
        begins = [at for at in range(1, len(line)) if line.startswith(BEGIN, at)] if line.endswith(b"\n") else []
        at = next((at for at in begins if _is_json(line[at:])), None)
        if line.endswith(b"\n") and at is None:
            raise UserError(
                f"line {number} of {path} is damaged: {line[:80]!r}. The lines number the trials, so it cannot be left "
                "out. Restore the file from a backup, or start another sweep with --folder."
            )
        parts.append(line[:at])
        whole += line[at:] if at else b""
    if not parts:
        return
    damaged = path.with_name(f"{path.name}.damaged")
    with open(damaged, "ab") as file:
        file.writelines(part.rstrip(b"\n") + b"\n" for part in parts)
    if text.startswith(whole):
        os.truncate(path, len(whole))  # needs no space
    else:
        with atomic_write(path) as new, open(new, "wb") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
    print(f"{path} had {len(parts)} incomplete line(s), as after a full disk; moved to {damaged}.", file=sys.stderr)


def _is_json(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
