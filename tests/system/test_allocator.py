"""A process of the command line keeps the memory of its steps, and is otherwise what was started."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from research.system import allocator, provenance

GLIBC = platform.libc_ver()[0] == "glibc"
PROGRAM = """
import os, platform, sys
from research.system.allocator import keep_memory
if sys.argv[1] != "glibc":
    platform.libc_ver = lambda: (sys.argv[1], "")
print("begins", end=" ")
keep_memory()
print(sys.argv[2:], sys.warnoptions, repr(os.environ.get("GLIBC_TUNABLES")))
"""
# Steps whose arrays of 40 MB are above glibc's dynamic threshold of 32 MB, a thread that allocates besides, and the
# median of the page faults of the later steps, and the peak memory.
STEPS = """
import resource, statistics, threading
from research.system.allocator import keep_memory
keep_memory()
import jax, jax.numpy as jnp, numpy as np
step, x, faults = jax.jit(lambda x: 0.9 * x), jnp.ones(10 * 2**20), []
for number in range(24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    reader = threading.Thread(target=lambda: np.zeros(2**22).sum())
    reader.start()
    x = step(x).block_until_ready()
    reader.join()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(round(statistics.median(faults[8:])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(*command, **env):
    kept = {k: v for k, v in os.environ.items() if k != allocator.SETTING and not k.startswith("MALLOC_")}
    return subprocess.run(command, capture_output=True, text=True, env={**kept, **env}, check=True).stdout.strip()


@pytest.mark.parametrize(
    "library, env, restarted",
    [
        ("glibc", {}, GLIBC),
        ("glibc", {allocator.SETTING: ""}, False),
        ("glibc", {allocator.SETTING: "glibc.malloc.arena_max=2"}, False),
        ("glibc", {"MALLOC_ARENA_MAX": "2"}, False),
        ("musl", {}, False),
        ("", {}, False),
    ],
)
def test_a_program_is_restarted_once_and_only_with_glibc_and_without_own_settings(tmp_path, library, env, restarted):
    (tmp_path / "program.py").write_text(PROGRAM)
    printed = run(sys.executable, "-Wignore", tmp_path / "program.py", library, "--a", "b c", **env)
    setting = allocator.TUNABLES if restarted else env.get(allocator.SETTING)
    assert printed == ("begins " if restarted else "") + f"begins ['--a', 'b c'] ['ignore'] {setting!r}"


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_a_step_after_warm_up_causes_no_page_faults(tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    kept, returned = (
        np.array(run(sys.executable, tmp_path / "steps.py", **env).split(), int)
        for env in ({}, {allocator.SETTING: ""})
    )
    assert returned[0] > 8_000  # 40 MB in pages of 4 KB
    assert kept[0] <= returned[0] / 1000
    assert kept[1] <= 2 * returned[1]  # blocks that were freed are found again


def test_the_command_line_keeps_memory(tmp_path):
    file = tmp_path / "printing.py"
    file.write_text("import os\nprint('has', os.environ.get('GLIBC_TUNABLES'))\ndef experiment(): ...\n")
    printed = run(sys.executable, "-m", "research", "train", file, "--help")
    assert printed.startswith(f"has {allocator.TUNABLES if GLIBC else None}\n")


def test_the_hardware_of_a_run_has_the_setting(monkeypatch):
    monkeypatch.setenv(allocator.SETTING, "glibc.malloc.arena_max=2")
    assert provenance.hardware()["allocator"] == "glibc.malloc.arena_max=2"
    monkeypatch.delenv(allocator.SETTING)
    assert provenance.hardware()["allocator"] == ""
