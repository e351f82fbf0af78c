"""A process of the command line has large pages, and is otherwise what was started."""

import os
import subprocess
import sys

import pytest

from research.system import huge_pages

PROGRAM = """
import sys
from pathlib import Path
from research.system import huge_pages
huge_pages.POLICY = Path(sys.argv[1])
print("begins", end=" ")
huge_pages.large_pages()
import os
print(sys.argv[2:], sys.warnoptions, repr(os.environ.get("GLIBC_TUNABLES")))
"""
FAULTS = """
import ctypes, resource
c = ctypes.CDLL(None)
c.malloc.restype, c.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
c.memset(c.malloc(ctypes.c_size_t(2**26)), 1, 2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*command, **env):
    kept = {k: v for k, v in os.environ.items() if k != huge_pages.SETTING}
    return subprocess.run(command, capture_output=True, text=True, env={**kept, **env}, check=True).stdout.strip()


@pytest.mark.parametrize(
    "policy, env, restarted",
    [
        ("always [madvise] never", {}, True),
        ("always [madvise] never", {huge_pages.SETTING: ""}, False),
        ("[always] madvise never", {}, False),
        (None, {}, False),
    ],
)
def test_a_program_is_started_anew_once_and_only_where_that_helps(tmp_path, policy, env, restarted):
    if policy:
        (tmp_path / "enabled").write_text(policy)
    (tmp_path / "program.py").write_text(PROGRAM)
    told = run(sys.executable, "-Wignore", tmp_path / "program.py", tmp_path / "enabled", "--a", "b c", **env)
    expected = f"begins ['--a', 'b c'] ['ignore'] {(huge_pages.LARGE if restarted else env.get(huge_pages.SETTING))!r}"
    assert told == ("begins " if restarted else "") + expected


@pytest.mark.skipif(
    not huge_pages.POLICY.exists() or "[madvise]" not in huge_pages.POLICY.read_text(),
    reason="no large pages for those who ask",
)
def test_the_setting_is_what_the_c_library_understands():
    small, large = (
        int(run(sys.executable, "-c", FAULTS, **env)) for env in ({}, {huge_pages.SETTING: huge_pages.LARGE})
    )
    assert small > 2**26 / 4096 * 0.9
    assert large < small / 10


def test_the_command_line_has_them(tmp_path):
    file = tmp_path / "printing.py"
    file.write_text("import os\nprint('has', os.environ.get('GLIBC_TUNABLES'))\ndef experiment(): ...\n")
    told = run(sys.executable, "-m", "research", "train", file, "--help")
    asked = huge_pages.POLICY.exists() and "[madvise]" in huge_pages.POLICY.read_text()
    assert told.startswith(f"has {huge_pages.LARGE if asked else None}\n")
