"""Real data sets in tests: no test downloads one, except the slow test that prepares them all."""

import pytest

from research.data.packaged import packaged_set
from research.data.readers.tfds import make_builder


def needs_data(*names: str):
    """Skip the test, with the reason, unless these packaged data sets are prepared in the data folder of the user."""
    for name in names:
        if not make_builder(name).data_path.exists():
            package = packaged_set(name).package
            pytest.skip(f"{name} is not prepared; `python -m research prepare {name}` gets it from {package.name}")
