"""Check that files and folders exist, and identify them; errors list the existing names and suggest the nearest one."""

import hashlib
import os
import pathlib

from research.errors import UserError, nearest


def existing(path, *, what: str) -> pathlib.Path:
    """Return the path with `~` expanded; raises UserError with the nearest existing name if it does not exist."""
    path = pathlib.Path(path).expanduser()
    if path.exists():
        return path
    parent = path.parent
    while not parent.exists():
        path, parent = parent, parent.parent
    siblings = sorted(os.listdir(parent)) if parent.is_dir() else []
    raise UserError(f"there is no {what} {str(path)!r}.{nearest(path.name, siblings)} {str(parent)!r} has: "
                    f"{', '.join(siblings[:12]) or 'nothing'}{', ...' if len(siblings) > 12 else ''}.")  # fmt: skip


def file(path, *, what: str = "file") -> pathlib.Path:
    """Return the path of an existing file; raises UserError if it is missing or not a file."""
    path = existing(path, what=what)
    if not path.is_file():
        raise UserError(f"{str(path)!r} is not a file; expected a {what}.")
    return path


def below(folder) -> list[pathlib.Path]:
    """List all files below a folder, sorted. Links to folders are followed; no folder is visited twice.

    Broken links are included, thus reading one raises an error instead of silently skipping a record.
    """
    files, visited = [], set()
    for current, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        files += [pathlib.Path(current, name) for name in names]
    return sorted(files)


def folder(path, *, what: str = "folder") -> pathlib.Path:
    """Return the path of an existing folder; raises UserError if it is missing or not a folder."""
    path = existing(path, what=what)
    if not path.is_dir():
        raise UserError(f"{str(path)!r} is not a folder; expected a {what}.")
    return path


def fingerprint(path: pathlib.Path) -> str:
    """Return a hash of the names, sizes and modification times of a file, or of all files of a folder."""
    files = [f for f in below(path) if f.is_file()] if path.is_dir() else [path]
    stats = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
