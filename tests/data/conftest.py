import pytest


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS data folder of the tests' own, never the one at home."""
    return tmp_path_factory.mktemp("tensorflow_datasets")
