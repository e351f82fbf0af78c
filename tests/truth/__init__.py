"""Reference values of third-party libraries, stored so that the tests do not install the libraries.

Each module here is a generator, named after a library and a field. It has PACKAGES, the pinned requirements, and
`values() -> {name: array}` with inputs, outputs and gradients for small random configurations. Its values are stored
beside it as `.npz`, with the versions of the packages. A generator never imports `research`.

    load("torch_losses")             the stored values, for a test
    make truth                       regenerates all values in an environment of their own; fails if they differ
    python -m tests.truth NAME       the same for one generator; a file that is missing is written

To add a generator, copy `torch_losses.py`.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, np.ndarray]:
    """Return the stored values of a generator."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
