"""Small file systems of our own: for a full disk, and for a power cut of a real one."""

import contextlib
import functools
import os
import subprocess


@functools.cache
def may_mount() -> bool:
    """Check whether this process may mount file systems."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@contextlib.contextmanager
def mounted(*arguments, at):
    """Mount a file system at a folder, which is made, for the block."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)  # lazy, because a process may still hold a file
