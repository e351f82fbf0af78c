"""The files of a fitted preparation in a run folder: values as JSON, arrays as .npz, no code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.files import atomic_write, read_json, write_json
from research.system.archive import read_npz

FORMAT = 1


class FittedFiles(NamedTuple):
    """The values and arrays that were saved under one name, and the path of the JSON file."""

    about: dict
    arrays: dict[str, np.ndarray]
    path: Path


def save_fitted(folder, name: str, about: Mapping, *, arrays: Mapping[str, np.ndarray]):
    """Write `NAME.npz`, and after it `NAME.json`, which states that both exist."""
    with atomic_write(Path(folder, f"{name}.npz")) as path, open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    write_json(Path(folder, f"{name}.json"), {"format": FORMAT, **about})


def load_fitted(folder, name: str) -> FittedFiles | None:
    """Read what `save_fitted` wrote; None if there is no `NAME.json`.

    Raises UserError for another format and for a damaged or missing file.
    """
    path, arrays_path = Path(folder, f"{name}.json"), Path(folder, f"{name}.npz")
    if not path.exists():
        return None
    about = read_json(path)
    if about.get("format") != FORMAT:
        raise UserError(f"{path} has format {about.get('format')!r}; expected {FORMAT}.")
    try:
        with open(arrays_path, "rb") as file:
            arrays = read_npz(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{arrays_path} is damaged: {error}.") from error
    return FittedFiles(about, arrays, path)
