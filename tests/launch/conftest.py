"""A real SLURM for the whole session, where its programs are installed."""

import pytest

from tests.launch import slurm_here


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if why := slurm_here.missing():
        pytest.skip(why)
    cluster = slurm_here.Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
