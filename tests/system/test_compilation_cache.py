"""What is compiled once is found by the next process, and does not grow without end."""

import os
import subprocess
import sys

import jax
import pytest

from research.system import compilation_cache, provenance
from research.system.compilation_cache import keep_compiled

COUNT = """
import jax
from research.system import compilation_cache
compilation_cache.SHORTEST = 0.0  # a fast machine may take less than what is worth keeping
folder = compilation_cache.keep_compiled()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
jax.jit(lambda x: jax.numpy.linalg.svd(x @ x)[1])(jax.numpy.ones((64, 64))).block_until_ready()
print(len(hits), folder)
"""


def counted(folder):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}
    env["RESEARCH_COMPILATION_CACHE"] = str(folder)
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, env=env, check=True)
    hits, where = done.stdout.split()
    return int(hits), where


def test_the_next_process_finds_what_was_compiled(tmp_path):
    first, where = counted(tmp_path)
    again, same = counted(tmp_path)
    assert first == 0 and again > 0
    assert where == same and where.startswith(str(tmp_path))
    assert counted("off") == (0, "None")


@pytest.fixture
def untouched():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch, untouched):
    monkeypatch.setattr(compilation_cache, "LIMIT", 250)
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / "other" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    keep_compiled({"RESEARCH_COMPILATION_CACHE": str(tmp_path)})
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["middle", "new"]


def test_processors_of_one_name_do_not_share_programs(tmp_path, monkeypatch, untouched):
    folders = []
    for flags in ("fma avx2", "fma avx2 avx512f", "avx2"):
        monkeypatch.setattr(provenance, "_cpuinfo", lambda flags=flags: {"model name": "AMD EPYC", "flags": flags})
        jax.config.update("jax_compilation_cache_dir", None)
        folders.append(keep_compiled({"RESEARCH_COMPILATION_CACHE": str(tmp_path)}))
    assert len(set(folders)) == 3
    assert provenance.processor() == "AMD EPYC, AVX2"


def test_the_folder_that_jax_was_given_stays(tmp_path, untouched):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "given"))
    assert keep_compiled({"RESEARCH_COMPILATION_CACHE": str(tmp_path)}) is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "given")


def test_a_folder_that_cannot_be_made_only_costs_time(tmp_path, untouched):
    (tmp_path / "file").write_text("")
    assert keep_compiled({"RESEARCH_COMPILATION_CACHE": str(tmp_path / "file")}) is None
    assert keep_compiled({"XDG_CACHE_HOME": str(tmp_path)}).parent == tmp_path / "research" / "compiled"
