"""Finding files, and saying what is there instead where they are not."""

import os
import pathlib

from research.errors import UserError, nearest


def existing(path, *, what: str) -> pathlib.Path:
    """The path, `~` expanded; raises UserError with the nearest name beside it where there is nothing."""
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
    """An existing file; raises UserError."""
    path = existing(path, what=what)
    if not path.is_file():
        raise UserError(f"{str(path)!r} is not a file; expected a {what}.")
    return path


def below(folder) -> list[pathlib.Path]:
    """All files below a folder, sorted. Links to folders are followed, but no folder is entered twice.

    A broken link is among them: whoever reads it says so.
    """
    found, seen = [], set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [pathlib.Path(at, name) for name in names]
    return sorted(found)


def folder(path, *, what: str = "folder") -> pathlib.Path:
    """An existing folder; raises UserError."""
    path = existing(path, what=what)
    if not path.is_dir():
        raise UserError(f"{str(path)!r} is not a folder; expected a {what}.")
    return path
