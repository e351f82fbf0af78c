"""Beam, Spark and Ray Data, started for real on this machine: the bytes of local processes, restarts and errors."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from research.data import indexed

PACKAGES = {"beam": "apache_beam", "spark": "pyspark", "ray": "ray"}
SETTINGS = {
    "local": "workers=1",
    "beam": "options=('--direct_num_workers=2',)",
    "spark": "master='local[2]', settings={'spark.sql.shuffle.partitions': 2}",
    "ray": "settings={'num_cpus': 2, 'log_to_driver': False, 'object_store_memory': 10**8}",
}
SCRIPT = """
import os, sys
import numpy as np
from research.data import arrays, fit, table
from research.data.clean import missing
from research.data.engines import beam, local, map_records, ray, spark
from research.data.features import encode, scale

def fn(record):
    if record["x"] == 130 and "FAIL" in os.environ:
        raise ValueError("bad")
    return {"y": np.sqrt(record["x"]), "text": f"number {record['x']}"}

rows = {"age": [1.0, None, 3.5, 8.0] * 10, "city": ["Rome", "Oslo", None, "Rome"] * 10}
prepare = fit(table(rows), missing.median(), missing.most_frequent(), scale.standard(), encode.one_hot())
sources = {
    "data": (fn, arrays(x=np.arange(200))),
    "stream": (fn, ({"x": np.int64(i)} for i in range(200))),
    "table": (prepare, [dict(zip(rows, row)) for row in zip(*rows.values())]),
}
if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        map_records(*sources[name], f"{sys.argv[2]}-{name}", ENGINE, part_size=16)
"""


def content(folder):
    """All files of a folder, with their bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(tmp_path, engine, sources, **environment):
    """Map the sources with an engine in a process of its own, and return it."""
    script = tmp_path / f"with_{engine}.py"
    held = "" if engine == "local" else ", held=64"  # streams take several rounds
    script.write_text(SCRIPT.replace("ENGINE", f"{engine}({SETTINGS[engine]}{held})"))
    return subprocess.run(
        [sys.executable, script, sources, tmp_path / engine], capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("engine", PACKAGES)
def test_an_engine_gives_the_bytes_of_local_processes(tmp_path, engine):
    if importlib.util.find_spec(PACKAGES[engine]) is None:
        pytest.skip(f"{PACKAGES[engine]} is not installed; pip install -e '.[{engine}]'")
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("no Java: apt-get install default-jre-headless")
    failed = run(tmp_path, engine, "stream", FAIL="1")
    assert failed.returncode and "record 130: ValueError: bad" in failed.stderr, failed.stderr[-3000:]
    partial = tmp_path / f"{engine}-stream.incomplete"
    before = {file.name: file.stat().st_mtime_ns for file in partial.glob("part-*.array_record")}
    assert len(before) >= 8 and not (tmp_path / f"{engine}-stream").exists()
    for name in (engine, "local"):
        done = run(tmp_path, name, "data,stream,table")
        assert not done.returncode, done.stderr[-3000:]
    for source in ("data", "stream", "table"):
        assert content(tmp_path / f"{engine}-{source}") == content(tmp_path / f"local-{source}")
    after = {name: (tmp_path / f"{engine}-stream" / name).stat().st_mtime_ns for name in before}
    assert after == before, "finished parts are not written again"
    data = indexed(tmp_path / f"{engine}-data")
    assert len(data) == 200 and data[169] == {"y": 13.0, "text": "number 169"}
